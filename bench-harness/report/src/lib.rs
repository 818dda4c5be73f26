//! What a load run measured, told to programs and to people.
//!
//! Owns the model of a measurement and every form it is shown in. It measures nothing, opens no
//! socket and reads no clock: whoever drives the load hands over what was seen.

#![forbid(unsafe_code)]

mod charts;
pub mod files;
pub mod hgrm;
pub mod html;
pub mod live;
#[doc(hidden)]
pub mod made_up;
pub mod model;
mod plot;
pub mod table;
pub mod warnings;
pub mod words;

pub use files::WriteError;
pub use live::{Live, LiveMode, LivePhase, LiveSample, LiveSeries, LiveStep};
pub use model::{
    Broker, ClientMachine, DecodeError, Interval, Knee, Latency, Report, Run, Series, Setting,
    Warning, WarningKind,
};
