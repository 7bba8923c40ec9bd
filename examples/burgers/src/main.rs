//! The program `hig` with viscous Burgers in one dimension: forces that make a given flow out of rest.

mod burgers;
mod picture;

use halfinverse::simulator::Setup;

fn main() -> std::process::ExitCode {
    hig::Program::new()
        .named("burgers")
        .parts(|registry| registry.simulator::<burgers::BurgersSettings>())
        .task(include_str!("../burgers.toml"))
        .picture(burgers::BurgersSettings::KIND, picture::Flows)
        .run()
}
