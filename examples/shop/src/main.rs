//! Serves the shop: `shop [--listen ADDRESS] [DIRECTORY]`.

use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;

use shop::{Settings, Shop};
use tokio::net::TcpListener;

const USAGE: &str = "usage: shop [--listen ADDRESS] [DIRECTORY]";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    let (address, dir) = arguments()?;
    // Without a directory everything is forgotten at the end.
    let scratch = tempfile::tempdir()?;
    let dir = dir.unwrap_or_else(|| scratch.path().to_owned());

    let shop = Shop::open(Settings::new(&dir)).await?;
    let listener = TcpListener::bind(address).await?;
    println!(
        "http://{} keeps its files in {}",
        listener.local_addr()?,
        dir.display()
    );
    shop.serve(listener, stop_signal()).await?;
    Ok(())
}

fn arguments() -> Result<(SocketAddr, Option<PathBuf>), Box<dyn Error>> {
    let mut address = SocketAddr::from(([127, 0, 0, 1], 3000));
    let mut dir = None;
    let mut arguments = std::env::args_os().skip(1);
    while let Some(argument) = arguments.next() {
        if argument == "--listen" {
            let value = arguments.next().ok_or(USAGE)?;
            address = value.to_str().ok_or(USAGE)?.parse()?;
        } else if dir.is_some() || argument.as_encoded_bytes().starts_with(b"-") {
            return Err(USAGE.into());
        } else {
            dir = Some(PathBuf::from(argument));
        }
    }
    Ok((address, dir))
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
