//! Every rename, sync and unlink, each with a named fault point.
