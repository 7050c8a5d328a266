//! The other end of `quorate-sim`: a child process that executes the plan in virtual time, and is
//! told the clients' operations over pipes. May not know the simulator's insides, nor plan load.

mod process;
mod wire;

pub use process::{SimError, Simulator, Start};
pub(crate) use wire::Ask;
pub use wire::End;
