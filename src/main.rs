//! edgeboot's entry: reads the command line, installs the one TLS provider, runs on one thread, and turns the outcome into an exit
//! code.

use std::process::ExitCode;

use edgeboot::cli::Cli;

fn main() -> ExitCode {
    edgeboot::host::process::leave_no_core();
    let cli = match Cli::read(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => {
            // clap's own text for `--help`, `--version` and usage errors; sysexits' 64 for the last.
            let code = if error.use_stderr() { 64 } else { 0 };
            return if error.print().is_ok() { ExitCode::from(code) } else { ExitCode::from(74) };
        }
    };
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        return ExitCode::from(70);
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return edgeboot::cli::failed(&edgeboot::error::Error::host("starting the runtime").because(error)),
    };
    let code = runtime.block_on(edgeboot::cli::main(cli));
    // A thread may still sit in a read that nothing will answer; the exit code is not to wait for it.
    runtime.shutdown_background();
    code
}
