//! Ports and the three runners: gather the facts, plan, apply, report. Knows no provider.

pub mod ports;
