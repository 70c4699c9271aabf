//! Serves the catalogue until its standard input ends. Use it to try another client by hand:
//!
//! ```sh
//! cargo run -p dlt-hub-stand-in --example serve
//! ```
#![allow(clippy::print_stdout, reason = "the address is what this program is for")]

use dlt_hub_stand_in::{Repository, StandIn, catalogue};
use std::io::Read;

fn main() -> std::io::Result<()> {
    let hub = StandIn::start();
    for repository in catalogue(8) {
        hub.serve(repository);
    }

    hub.serve(Repository::model("someone/model").file("config.json", "{}\n"));
    println!("{}", hub.endpoint());
    std::io::stdin().read_to_end(&mut Vec::new())?;

    Ok(())
}
