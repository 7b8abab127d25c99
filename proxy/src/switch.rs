//! Which stack serves.
pub mod audit;
pub mod chance;
pub mod charge;
pub mod choice;
pub mod evidence;
pub mod pilot;
pub mod standing;
pub mod state;
