//! A benchmark's record as CSV.

use super::csv::cell;
use crate::error::{Error, Result};
use crate::record::bench::{Bench, Checked, Measure};

/// One line for each lane and measure of each shape.
///
/// # Errors
/// When a line cannot be written.
pub fn csv(record: &Bench) -> Result<Vec<u8>> {
    let failed = |e: ::csv::Error| Error::input(format!("cannot write CSV: {e}"), "", "");
    let mut writer = ::csv::Writer::from_writer(Vec::new());
    writer
        .write_record([
            "name",
            "rows",
            "cols",
            "bits",
            "group_size",
            "lane",
            "device",
            "software",
            "verdict",
            "measure",
            "clock",
            "rounds",
            "median_s",
            "mad_s",
            "low_s",
            "high_s",
            "elements_per_s",
            "gb_per_s",
            "copy_gb_per_s",
            "percent_of_copy",
        ])
        .map_err(failed)?;
    for s in &record.shapes {
        for lane in &s.lanes {
            let about = record.lanes.iter().find(|l| l.name == lane.lane);
            let head = [
                cell(&s.name),
                s.shape[0].to_string(),
                s.shape[1].to_string(),
                s.bits.to_string(),
                s.group_size.to_string(),
                cell(&lane.lane.to_string()),
                cell(about.and_then(|l| l.device.as_deref()).unwrap_or_default()),
                about
                    .and_then(|l| l.software)
                    .unwrap_or_default()
                    .to_string(),
                match lane.verdict {
                    Checked::Verified => "verified",
                    Checked::Wrong => "wrong",
                    Checked::Broke => "broke",
                }
                .to_owned(),
            ];
            let Some(times) = &lane.times else {
                let mut row: Vec<String> = head.into();
                row.resize(20, String::new());
                writer.write_record(&row).map_err(failed)?;
                continue;
            };
            for measure in Measure::ALL {
                let Some(speed) = times.of(measure) else {
                    continue;
                };
                let number = |v: Option<f64>| v.map(|v| v.to_string()).unwrap_or_default();
                let mut row: Vec<String> = head.clone().into();
                row.extend([
                    measure.name().to_owned(),
                    cell(&speed.clock),
                    s.rounds.to_string(),
                    speed.median_s.to_string(),
                    speed.mad_s.to_string(),
                    number(speed.interval_s.map(|i| i[0])),
                    number(speed.interval_s.map(|i| i[1])),
                    number(speed.elements_per_s),
                    speed.gb_per_s.to_string(),
                    number(times.copy.as_ref().map(|c| c.gb_per_s)),
                    number(speed.percent_of_copy),
                ]);
                writer.write_record(&row).map_err(failed)?;
            }
        }
    }
    writer
        .into_inner()
        .map_err(|e| Error::input(format!("cannot write CSV: {e}"), "", ""))
}
