//! A program that runs: lines to it and from it, the end of what it prints, and its own end.

use super::protocol::quoted;
use crate::environment;
use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{
    Receiver, RecvTimeoutError, Sender, SyncSender, TryRecvError, TrySendError, channel,
    sync_channel,
};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Most bytes of a line; a longer one is no answer.
const LINE: usize = 1 << 16;

/// Bytes that are kept of what a program prints.
const TAIL: usize = 4096;

/// How long a program may take to end once its stdin is closed, or its stdout is, or it was killed.
const GRACE: Duration = Duration::from_secs(2);

/// The last bytes that a program printed.
type OutputTail = Arc<Mutex<VecDeque<u8>>>;

/// Lines for a program's stdin, and those from its stdout.
struct Lines {
    to: SyncSender<String>,
    from: Receiver<Vec<u8>>,
}

/// A program that was started. When it is dropped its stdin is closed; what does not end then is killed.
pub struct Process {
    child: Child,
    /// Of a program that is kept.
    lines: Option<Lines>,
    tail: OutputTail,
    /// Disconnected once all that it printed is in `tail`.
    printed: Receiver<()>,
    /// How it ended, once that is known.
    status: Option<ExitStatus>,
}

impl Process {
    /// Starts a program that is kept and asked.
    pub fn keep(path: &Path, arguments: &[String]) -> io::Result<Self> {
        let (mut process, done) = Self::start(path, arguments, Stdio::piped())?;
        drop(done);
        let child = &mut process.child;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        process.lines = Some(Lines {
            to: write_lines(stdin.expect("a pipe")),
            from: read_lines(stdout.expect("a pipe")),
        });
        Ok(process)
    }

    /// Starts a program that does one thing and ends; its stdout is kept with its stderr.
    pub fn once(path: &Path, arguments: &[String]) -> io::Result<Self> {
        let (mut process, done) = Self::start(path, arguments, Stdio::null())?;
        let stdout = process.child.stdout.take().expect("a pipe");
        gather(stdout, &process.tail, done);
        Ok(process)
    }

    fn start(path: &Path, arguments: &[String], stdin: Stdio) -> io::Result<(Self, Sender<()>)> {
        let mut command = Command::new(path);
        command.args(arguments).stdin(stdin);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        environment::hand_on(&mut command);
        // A group of its own, so that what it starts is killed with it.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn()?;
        let tail = OutputTail::default();
        let (done, printed) = channel();
        gather(child.stderr.take().expect("a pipe"), &tail, done.clone());
        let process = Self {
            child,
            lines: None,
            tail,
            printed,
            status: None,
        };
        Ok((process, done))
    }

    /// Sends a line and waits for one; what is wrong when there is none within `limit`.
    pub fn ask(&mut self, line: String, limit: Duration) -> Result<Vec<u8>, String> {
        let lines = self.lines.as_ref().expect("it is kept");
        // What was said before it was asked is no answer.
        match lines.from.try_recv() {
            Ok(line) => {
                let line = quoted(&line);
                return Err(format!("it wrote a line that it was not asked for: {line}"));
            }
            Err(TryRecvError::Disconnected) => return Err(self.gone()),
            Err(TryRecvError::Empty) => {}
        }
        if let Err(TrySendError::Full(_)) = lines.to.try_send(line) {
            return Err("it does not read its stdin".into());
        }
        match lines.from.recv_timeout(limit) {
            Ok(line) if line.len() > LINE => Err(format!(
                "it wrote more than {LINE} bytes without the end of a line: {}",
                quoted(&line)
            )),
            Ok(line) => Ok(line),
            Err(RecvTimeoutError::Timeout) => Err(late(limit)),
            Err(RecvTimeoutError::Disconnected) => Err(self.gone()),
        }
    }

    /// Waits for the end of a program that was started once; what is wrong when it does not end within
    /// `limit`, or not well.
    pub fn finish(&mut self, limit: Duration) -> Result<(), String> {
        if !self.ends_within(limit) {
            return Err(late(limit));
        }
        match self.kill() {
            Some(status) if status.success() => Ok(()),
            status => Err(ended(status)),
        }
    }

    /// The end of what it printed. The program is killed, so that there is an end.
    pub fn last_words(&mut self) -> String {
        self.kill();
        // What it started may have left its group and keep the pipes open.
        let _ = self.printed.recv_timeout(GRACE);
        let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes: Vec<u8> = tail.iter().copied().collect();
        String::from_utf8_lossy(&bytes).trim().to_owned()
    }

    /// Why a program that closed its stdout does not answer.
    fn gone(&mut self) -> String {
        if self.ends_within(GRACE) {
            return ended(self.kill());
        }
        "it closed its stdout and did not end".into()
    }

    /// Waits for the end; whether it came within `limit`. Looks more rarely the longer it lasts, so that a
    /// time is known to within 1 %.
    fn ends_within(&mut self, limit: Duration) -> bool {
        let start = Instant::now();
        loop {
            if self.has_ended() {
                return true;
            }
            let passed = start.elapsed();
            if passed >= limit {
                return false;
            }
            let pause = passed / 100;
            thread::sleep(pause.clamp(Duration::from_micros(100), Duration::from_millis(20)));
        }
    }

    /// Whether it has ended. It stays unreaped, so that its number cannot be another's when it is killed.
    #[cfg(unix)]
    fn has_ended(&mut self) -> bool {
        use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
        let pid = Pid::from_child(&self.child);
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        self.status.is_some() || waitid(WaitId::Pid(pid), options).is_ok_and(|s| s.is_some())
    }

    #[cfg(not(unix))]
    fn has_ended(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|s| s.is_some())
    }

    /// Kills it with all of its group. How it ended, unless it hangs in a driver.
    fn kill(&mut self) -> Option<ExitStatus> {
        if self.status.is_some() {
            return self.status;
        }
        #[cfg(unix)]
        {
            use rustix::process::{Pid, Signal, kill_process_group};
            let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        }
        let _ = self.child.kill();
        if self.ends_within(GRACE) {
            self.status = self.child.wait().ok();
        }
        self.status
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Its stdin is closed by it.
        self.lines = None;
        self.ends_within(GRACE);
        self.kill();
    }
}

/// Says how a program ended that was to go on, or to end well.
fn ended(status: Option<ExitStatus>) -> String {
    match status {
        Some(status) => format!("it ended with {status}"),
        None => "it ended".into(),
    }
}

fn late(limit: Duration) -> String {
    format!("no answer within {} s, it was killed", limit.as_secs_f64())
}

/// Keeps the end of what comes until there is no more, then drops `done`.
fn gather(mut from: impl Read + Send + 'static, tail: &OutputTail, done: Sender<()>) {
    let tail = Arc::clone(tail);
    thread::spawn(move || {
        let _done = done;
        let mut buffer = [0; TAIL];
        loop {
            match from.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => {
                    let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
                    tail.extend(&buffer[..count]);
                    let over = tail.len().saturating_sub(TAIL);
                    tail.drain(..over);
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    });
}

/// Writes lines in a thread of its own: a program that does not read would hold up whoever writes. Stdin
/// is closed when the sender is dropped.
fn write_lines(mut stdin: ChildStdin) -> SyncSender<String> {
    let (to, lines) = sync_channel::<String>(1);
    thread::spawn(move || {
        for line in lines {
            // That it reads no more is known by its end, or by the time that passes.
            if stdin.write_all(line.as_bytes()).is_err() {
                return;
            }
        }
    });
    to
}

/// Reads lines in a thread of its own, each with its end; nothing after one of more than [`LINE`] bytes.
fn read_lines(stdout: ChildStdout) -> Receiver<Vec<u8>> {
    let (to, lines) = sync_channel(1);
    thread::spawn(move || {
        let mut stdout = BufReader::new(stdout);
        loop {
            let mut line = Vec::new();
            let most = LINE as u64 + 1;
            match stdout.by_ref().take(most).read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => return,
                Ok(count) => {
                    let too_long = count > LINE;
                    if to.send(line).is_err() || too_long {
                        return;
                    }
                }
            }
        }
    });
    lines
}
