//! Completions and manual pages come from the program itself.

use crate::support::cli::{stderr, stdout, tq4};
use crate::support::not_run;
use std::io::Write;
use std::process::{Command, Stdio};

/// Every command, as the help lists them.
fn commands() -> Vec<String> {
    let help = stdout(&tq4(&["--help"]));
    let names: Vec<String> = help
        .lines()
        .skip_while(|l| *l != "Commands:")
        .skip(1)
        .take_while(|l| !l.is_empty())
        .filter_map(|l| l.strip_prefix("  ")?.split_whitespace().next())
        .filter(|n| *n != "help" && n.chars().all(|c| c.is_ascii_lowercase()))
        .map(str::to_owned)
        .collect();
    assert!(names.contains(&"quantize".to_owned()), "{help}");
    names
}

#[test]
fn every_shell_knows_every_command_and_option() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let out = tq4(&["completions", shell]);
        assert!(out.status.success(), "{}", stderr(&out));
        let text = stdout(&out);
        for name in commands() {
            assert!(text.contains(&name), "{shell}: {name}");
        }
        assert!(text.contains("sign-seed"), "{shell}");
    }
    assert_eq!(tq4(&["completions", "csh"]).status.code(), Some(2));
}

#[test]
fn bash_takes_the_script_and_completes() {
    let script = stdout(&tq4(&["completions", "bash"]));
    let bash = Command::new("bash")
        .arg("--norc")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut bash) = bash else {
        return not_run("completions in bash", "install bash");
    };
    let ask =
        "COMP_WORDS=(tq4 quant); COMP_CWORD=1; _tq4 tq4 quant tq4; echo \"<${COMPREPLY[*]}>\"\n";
    let mut stdin = bash.stdin.take().unwrap();
    stdin.write_all(script.as_bytes()).unwrap();
    stdin.write_all(ask.as_bytes()).unwrap();
    drop(stdin);
    let out = bash.wait_with_output().unwrap();
    assert_eq!(stdout(&out).trim(), "<quantize>", "{}", stderr(&out));
}

#[test]
fn there_is_a_manual_page_for_the_program_and_each_command() {
    let page = stdout(&tq4(&["man"]));
    assert!(page.contains(".TH tq4 1"), "{page}");
    for name in commands() {
        assert!(page.contains(&name.replace('-', "\\-")), "{name}");
        let own = stdout(&tq4(&["man", &name]));
        assert!(own.contains(&format!(".TH tq4-{name} 1")), "{own}");
    }
    let out = tq4(&["man", "nothing"]);
    assert_eq!(out.status.code(), Some(2));
    assert!(
        stderr(&out).contains("no command \"nothing\""),
        "{}",
        stderr(&out)
    );
}
