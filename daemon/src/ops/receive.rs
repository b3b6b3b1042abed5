//! What the endpoint writes.
