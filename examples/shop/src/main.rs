//! Serves the shop; see [`USAGE`].

use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;

use shop::{Settings, Shop};
use tokio::net::TcpListener;

const USAGE: &str = "usage: shop [--listen ADDRESS] [--config LARDER.TOML] [--limit REQUESTS_PER_MINUTE] [DIRECTORY]";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    // Without a directory everything is forgotten at the end.
    let scratch = tempfile::tempdir()?;
    let (address, settings) = arguments(Settings::new(scratch.path()))?;
    let dir = settings.dir.clone();

    let shop = Shop::open(settings).await?;
    let listener = TcpListener::bind(address).await?;
    println!(
        "http://{} keeps its files in {}",
        listener.local_addr()?,
        dir.display()
    );
    shop.serve(listener, stop_signal()).await?;
    Ok(())
}

fn arguments(mut settings: Settings) -> Result<(SocketAddr, Settings), Box<dyn Error>> {
    let mut address = SocketAddr::from(([127, 0, 0, 1], 3000));
    let mut dir = None;
    let mut arguments = std::env::args_os().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(USAGE);
        match argument.to_str() {
            Some("--listen") => address = value()?.to_str().ok_or(USAGE)?.parse()?,
            Some("--limit") => {
                settings.requests_per_minute = value()?.to_str().ok_or(USAGE)?.parse()?;
            }
            Some("--config") => settings.config = Some(value()?.into()),
            Some(option) if option.starts_with('-') => return Err(USAGE.into()),
            _ if dir.is_some() => return Err(USAGE.into()),
            _ => dir = Some(PathBuf::from(argument)),
        }
    }
    settings.dir = dir.unwrap_or(settings.dir);
    Ok((address, settings))
}

/// Waits for Ctrl-C or, as service managers send it, SIGTERM.
async fn stop_signal() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate =
            signal(SignalKind::terminate()).expect("signals can be had in the main program");
        tokio::select! {
            _ = tokio::signal::ctrl_c() => (),
            _ = terminate.recv() => (),
        }
    }
    #[cfg(not(unix))]
    let _ = tokio::signal::ctrl_c().await;
}
