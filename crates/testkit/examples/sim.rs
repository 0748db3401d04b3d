//! A simulated engine on a port: `cargo run -p longshore-testkit --example sim -- [VERSION] [PORT]`.

use longshore_testkit::{SimConfig, SimEngine, Version};

#[tokio::main]
#[allow(clippy::print_stdout)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut config = SimConfig::version(arguments.next().map_or(Ok(Version::default()), |text| text.parse())?);
    config.listen.set_port(arguments.next().map_or(Ok(8000), |text| text.parse())?);
    let engine = SimEngine::start(config).await?;
    println!("a simulated engine answers at {}", engine.url());
    tokio::signal::ctrl_c().await?;
    engine.stop().await;
    Ok(())
}
