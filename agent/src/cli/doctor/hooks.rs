//! What the hooks call: whether a program can be run, and how the agent fared with it.

use std::path::Path;

use nix::unistd::{AccessFlags, access};

use super::super::output::{count, plain};
use super::Finding;
use crate::config::Config;
use crate::control::wire::HookStatus;
use crate::hooks::Calls;

/// Whether the programs that the configuration names can be run.
pub(super) fn programs(config: &Config, found: &mut Vec<Finding>) {
    for hook in &config.hooks {
        let Calls::Command(command) = &hook.calls else { continue };
        let Some(program) = command.first().map(Path::new) else { continue };
        let why = match access(program, AccessFlags::X_OK) {
            Ok(()) if program.is_file() => continue,
            Ok(()) => "it is no file".to_owned(),
            Err(error) => error.desc().to_owned(),
        };
        let what = format_args!("{}: {} cannot be run: {why}", hook.name, program.display());
        let mend = "put an executable program there, or name another one in the configuration";
        found.push(Finding::warning("hook", what, mend));
    }
}

/// What is to be thought of the agent's hooks.
pub(super) fn judge(hooks: &[HookStatus], found: &mut Vec<Finding>) {
    for hook in hooks {
        let name = plain(&hook.name);
        let dead = hook.dead.len();
        found.push(match (dead, &hook.failed_last) {
            (0, None) => Finding::ok("hook", format_args!("{name} calls {}", plain(&hook.calls))),
            (0, Some(reason)) => {
                let what = format_args!("{name} could not be called and is tried again: {}", plain(reason));
                Finding::warning("hook", what, format!("muster hook test {name} shows whether it works again"))
            }
            (_, last) => {
                let last = last.as_ref().or(hook.dead.last().map(|dead| &dead.reason));
                let reason = last.map(|reason| plain(reason)).unwrap_or_default();
                let mend = format!(
                    "mend what it calls and try it with muster hook test {name}; then muster hook retry {name} makes \
                     up for the lost calls, muster hook forget {name} lets them go"
                );
                let lost = count(dead, "call");
                Finding::warning("hook", format_args!("{name}: {lost} given up; the last: {reason}"), mend)
            }
        });
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::super::Verdict::{self, Ok, Warning};
    use super::*;
    use crate::control::wire::fixtures;

    fn check(of: impl FnOnce(&mut Vec<Finding>), expected: &[(Verdict, &str)]) {
        let mut found = Vec::new();
        of(&mut found);
        let seen: Vec<_> = found.iter().map(|it| (it.verdict, it.what.as_str())).collect();
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_hook_that_could_not_be_called_is_a_warning_with_a_way_out() {
        let mut all = fixtures::hooks();
        let reason = "https://pager.example.org: status 503 Service Unavailable";
        let given_up = format!("pager: 1 call given up; the last: {reason}");
        check(
            |found| judge(&all, found),
            &[(Ok, "chat calls /etc/muster/tell-the-chat"), (Warning, &given_up)],
        );
        all[1].dead.clear();
        let tried = format!("pager could not be called and is tried again: {reason}");
        check(|found| judge(&all[1..], found), &[(Warning, &tried)]);
    }

    #[test]
    fn a_program_that_cannot_be_run_is_found_before_anything_happens() {
        let hook = |name: &str, program: &str| {
            format!("[[hook]]\nname = \"{name}\"\nevents = [\"all\"]\ncommand = [\"{program}\"]\n")
        };
        let text =
            ["fleet = \"home\"\nhost = \"alpha\"\n".to_owned(), hook("a", "/bin/sh"), hook("b", "/nowhere")];
        let config = Config::from_text(Path::new("m.toml"), &text.concat(), |_| None).unwrap();
        check(
            |found| programs(&config, found),
            &[(Warning, "b: /nowhere cannot be run: No such file or directory")],
        );
    }
}
