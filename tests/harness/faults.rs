//! Faults of the disk, injected at the store's named points.

use larderd::store::disk::FaultPoint;

/// What happens at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The process dies there, as by `SIGKILL`.
    Kill,
    /// The disk is full there, and from then on.
    Full,
}

/// Returns the names of all points, as the store lists them.
pub fn points() -> Vec<&'static str> {
    FaultPoint::ALL.iter().map(|point| point.name()).collect()
}

/// Writes what `LARDER_FAULT` takes.
pub fn variable(point: &str, kind: Kind) -> String {
    match kind {
        Kind::Kill => point.to_owned(),
        Kind::Full => format!("{point}=full"),
    }
}
