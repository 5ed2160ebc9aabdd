//! Runs about which there is more to say than fits.

use super::example::{failed, run};
use super::text;
use crate::record::{ReportHeader, Run, TensorRecord};
use crate::report::Markdown;

/// A run of so many tensors that all failed, with names and diagnoses of so many characters.
fn long(tensors: usize, characters: usize) -> Run {
    let whole = run();
    let header = ReportHeader {
        format: whole.format,
        tool: whole.tool,
        model: whole.model,
    };
    let text = |what: &str| format!("{what}<&|\u{1b}.").repeat(characters / 8 + 1);
    let mut one = failed();
    one.diagnosis[0].diagnosis.evidence = text("why");
    one.decisions[0].reason = text("gate");
    one.lanes[3].reason = Some(text("lane"));
    let name = text("name");
    let failed = |i: usize| TensorRecord {
        tensor_base: format!("{i}.{name}"),
        ..one.clone()
    };
    Run::new(header, (0..tensors).map(failed).collect(), whole.plain)
}

#[test]
fn markdown_fits_a_comment_whatever_the_run() {
    for (tensors, characters) in [
        (1, 10),
        (1, 100_000),
        (9, 3000),
        (50, 40),
        (50, 2000),
        (1000, 40),
        (20_000, 40),
    ] {
        let text = text(&Markdown::default(), &long(tensors, characters));
        assert!(
            text.len() <= 65_536,
            "{tensors}, {characters}: {}",
            text.len()
        );
        // What an issue is about stands there however much there is to say.
        for needed in [
            "| model | model: turboquant",
            "| system | OS, HOST |",
            "| cuda | ran: a CUDA device, CUDA, driver 1.2",
            "**cuda_dequant_differs_from_reference**",
            "> diagnosis of cuda",
        ] {
            assert!(
                text.contains(needed),
                "{tensors}, {characters}: {needed}: {text}"
            );
        }
        assert_eq!(
            text.matches("<details>").count(),
            text.matches("</details>").count()
        );
        if tensors >= 1000 {
            assert!(text.len() > 40_000, "{}", text.len());
            assert!(
                text.contains(" more tensors with something wrong\n"),
                "{text}"
            );
            assert!(text.contains(" more tensors\n"), "{text}");
        }
    }
}
