//! What the endpoint reads.
