//! The command line: the tree of commands, the runtime they run on, and exit codes (0 done, 1 failed,
//! 2 usage). Each command is a file beside this one.

pub mod audit;
pub mod bench;
pub mod carriers;
pub mod client;
pub mod component;
pub mod componentize;
pub mod crates;
pub mod demo;
pub mod events;
pub mod explain;
pub mod inspect;
pub mod message;
pub mod numbers;
pub mod oci;
pub mod plugin;
pub mod plugin_dev;
pub mod plugin_test;
pub mod policy;
pub mod scaffold;
pub mod send;
pub mod serve;
pub mod sign;
pub mod smsc;
pub mod store;
pub mod toolchain;
pub mod trial;

use std::future::Future;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::clock::Clock;
use client::Failure;
use plugin::PluginError;

/// A WebAssembly-extensible SMS platform
#[derive(Debug, Parser)]
#[command(
    name = "heliograph",
    version,
    propagate_version = true,
    after_help = "Example:\n  heliograph demo"
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    Serve(serve::ServeArgs),
    Check(serve::CheckArgs),
    Demo(demo::Args),
    Send(Box<send::Args>),
    /// Look at messages, cancel or release them
    #[command(
        subcommand,
        after_help = "Example:\n  heliograph message list --status held"
    )]
    Message(message::Command),
    /// Look numbers up, and check tables of networks
    #[command(
        subcommand,
        after_help = "Example:\n  heliograph numbers lookup +447700900123"
    )]
    Numbers(numbers::Command),
    /// Write, build, inspect and deploy plugins
    #[command(
        subcommand,
        after_help = "Example:\n  heliograph plugin new no-links --hook content-filter"
    )]
    Plugin(PluginCommand),
    /// Look at the policy and change it
    #[command(
        subcommand,
        after_help = "Example:\n  heliograph policy apply policy.toml"
    )]
    Policy(policy::Command),
    /// Look at the carriers and at what comes back from them
    #[command(subcommand, after_help = "Example:\n  heliograph carriers list")]
    Carriers(carriers::Command),
    /// Look at what administrators did
    #[command(subcommand, after_help = "Example:\n  heliograph audit list")]
    Audit(audit::Command),
    /// Check, repair and export the files of a store whose server is not running
    #[command(
        subcommand,
        after_help = "Example:\n  heliograph store check --config heliograph.toml"
    )]
    Store(store::Command),
    Events(events::Args),
    Explain(Box<explain::Args>),
    Smsc(Box<smsc::Args>),
    Bench(bench::Args),
}

#[derive(Debug, Subcommand)]
pub enum PluginCommand {
    /// Make the crate of a new plugin
    New(plugin::New),
    /// Build plugins into components
    Build(plugin::Build),
    /// Make a component of a core module that another compiler made
    Componentize(componentize::Componentize),
    /// Tell what a component serves and wants
    Inspect(inspect::Inspect),
    /// Make a pair of keys to sign with
    Keygen(sign::Keygen),
    /// Sign a component
    Sign(sign::Sign),
    /// Check a component's signatures
    Verify(sign::Verify),
    /// Put a component and its signatures into a registry or an OCI layout
    Push(oci::Push),
    /// Fetch a component and its signatures out of a registry or an OCI layout
    Pull(oci::Pull),
    Test(plugin_test::Args),
    Dev(Box<plugin_dev::Args>),
    Deploy(policy::Deploy),
    /// List the components that were uploaded
    #[command(after_help = "Example:\n  heliograph plugin list")]
    List(policy::Plain),
    /// Compile standard input to standard output: the server's own helper
    #[command(hide = true)]
    CompileChild {
        #[arg(long)]
        quick: bool,
    },
}

/// Parses the command line and does what it says.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Command::Serve(args) => on_runtime(serve::serve(args, Clock::system())),
        Command::Check(args) => on_runtime(serve::check(args)),
        Command::Demo(args) => on_runtime(demo::run(args)),
        Command::Send(args) => on_runtime(async { exit("send", send::run(*args).await) }),
        Command::Message(command) => {
            on_runtime(async { exit("message", message::run(command).await) })
        }
        Command::Numbers(command) => {
            on_runtime(async { exit("numbers", numbers::run(command).await) })
        }
        Command::Plugin(command) => plugin(command),
        Command::Policy(command) => {
            on_runtime(async { exit("policy", policy::run(command).await) })
        }
        Command::Carriers(command) => {
            on_runtime(async { exit("carriers", carriers::run(command).await) })
        }
        Command::Audit(command) => on_runtime(async { exit("audit", audit::run(command).await) }),
        Command::Store(command) => exit("store", store::run(command)),
        Command::Events(args) => on_runtime(async { exit("events", events::run(args).await) }),
        Command::Explain(args) => on_runtime(async { exit("explain", explain::run(*args).await) }),
        Command::Smsc(args) => on_runtime(smsc::run(*args)),
        Command::Bench(args) => on_runtime(bench::run(args)),
    }
}

/// `heliograph serve --config FILE` by another clock than the system's: for statements about days.
pub fn serve_by(clock: Clock, config: std::path::PathBuf) -> ExitCode {
    let args = serve::ServeArgs {
        config,
        json: false,
    };
    on_runtime(serve::serve(args, clock))
}

fn plugin(command: PluginCommand) -> ExitCode {
    let out = &mut std::io::stdout();
    match command {
        PluginCommand::New(args) => plugin_exit("new", plugin::new(&args, out)),
        PluginCommand::Build(args) => plugin_exit("build", plugin::build(&args, out)),
        PluginCommand::Componentize(args) => {
            plugin_exit("componentize", componentize::run(&args, out))
        }
        PluginCommand::Inspect(args) => on_runtime(async move {
            plugin_exit("inspect", inspect::run(&args, &mut std::io::stdout()).await)
        }),
        PluginCommand::Keygen(args) => plugin_exit("keygen", sign::keygen(&args, out)),
        PluginCommand::Sign(args) => plugin_exit("sign", sign::sign(&args, out)),
        PluginCommand::Verify(args) => plugin_exit("verify", sign::verify(&args, out)),
        PluginCommand::Push(args) => on_runtime(async move {
            plugin_exit("push", oci::push(&args, &mut std::io::stdout()).await)
        }),
        PluginCommand::Pull(args) => on_runtime(async move {
            plugin_exit("pull", oci::pull(&args, &mut std::io::stdout()).await)
        }),
        PluginCommand::Test(args) => {
            on_runtime(async { exit("plugin test", plugin_test::run(args).await) })
        }
        PluginCommand::Dev(args) => {
            on_runtime(async { exit("plugin dev", plugin_dev::run(*args).await) })
        }
        PluginCommand::Deploy(args) => {
            on_runtime(async { exit("plugin deploy", policy::deploy(args).await) })
        }
        PluginCommand::List(args) => {
            on_runtime(async { exit("plugin list", policy::list(args).await) })
        }
        PluginCommand::CompileChild { quick } => {
            let care = match quick {
                true => crate::plugin::Care::Quick,
                false => crate::plugin::Care::Thorough,
            };
            match crate::plugin::compile_child(std::io::stdin(), std::io::stdout(), care) {
                Ok(()) => ExitCode::SUCCESS,
                Err(why) => {
                    eprintln!("{why}");
                    ExitCode::FAILURE
                }
            }
        }
    }
}

fn on_runtime(command: impl Future<Output = ExitCode>) -> ExitCode {
    match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => {
            let code = runtime.block_on(command);
            // What still runs has been told to stop, and is not waited for.
            runtime.shutdown_background();
            code
        }
        Err(error) => {
            eprintln!("heliograph: cannot start: {error}");
            ExitCode::FAILURE
        }
    }
}

fn exit(command: &str, result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("heliograph {command}: {failure}");
            failure.exit_code()
        }
    }
}

fn plugin_exit(command: &str, result: Result<(), PluginError>) -> ExitCode {
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    // Whoever reads our output has enough of it: no reason to complain.
    if matches!(&error, PluginError::Output(reason) if reason.kind() == std::io::ErrorKind::BrokenPipe)
    {
        return ExitCode::SUCCESS;
    }
    eprintln!("heliograph plugin {command}: {error}");
    match error {
        PluginError::Usage(_) => ExitCode::from(2),
        PluginError::Io { .. }
        | PluginError::NotAPlugin { .. }
        | PluginError::Failed(_)
        | PluginError::Toolchain(_)
        | PluginError::Output(_) => ExitCode::FAILURE,
    }
}

/// Where the built bundled plugins are: as told, or `plugins` beside the program's own folder,
/// where `heliograph plugin build` puts them.
pub fn plugins_folder(told: Option<&std::path::Path>) -> Result<std::path::PathBuf, String> {
    if let Some(folder) = told {
        return Ok(folder.to_owned());
    }
    let program = std::env::current_exe().map_err(|e| format!("this program's own path: {e}"))?;
    let beside = |levels: usize| program.ancestors().nth(levels).map(|p| p.join("plugins"));
    [beside(1), beside(2)]
        .into_iter()
        .flatten()
        .find(|folder| folder.join("least-cost-router.wasm").is_file())
        .ok_or_else(|| {
            "the bundled plugins are not built; `make plugins` builds them, --plugins names another folder".to_owned()
        })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_tree_of_commands_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_helps_with_an_example_and_speaks_json() {
        fn walk(command: &clap::Command, path: &str) {
            for sub in command.get_subcommands().filter(|s| !s.is_hide_set()) {
                let path = format!("{path} {}", sub.get_name());
                let help = sub
                    .get_after_help()
                    .map(ToString::to_string)
                    .unwrap_or_default();
                assert!(
                    help.contains("Example"),
                    "{path} has no example in its help"
                );
                assert!(
                    sub.get_about().is_some(),
                    "{path} does not say what it is for"
                );
                if sub.has_subcommands() {
                    walk(sub, &path);
                } else {
                    assert!(
                        sub.get_arguments().any(|a| a.get_id() == "json"),
                        "{path} has no --json"
                    );
                }
            }
        }
        walk(&Cli::command(), "heliograph");
    }

    #[test]
    fn the_examples_of_the_help_are_commands() {
        fn walk(command: &clap::Command) {
            let help = command
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            for line in help
                .lines()
                .filter(|l| !l.contains(['\'', '|', '&']) && !l.ends_with('\\'))
            {
                let Some(words) = line
                    .trim()
                    .strip_prefix("heliograph ")
                    .or_else(|| line.strip_prefix("Example: heliograph "))
                else {
                    continue;
                };
                let words = std::iter::once("heliograph").chain(words.split_whitespace());
                if let Err(error) = Cli::try_parse_from(words) {
                    assert!(!error.use_stderr(), "{line}: {error}");
                }
            }
            command.get_subcommands().for_each(walk);
        }
        walk(&Cli::command());
    }
}
