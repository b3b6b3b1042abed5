//! Messages that hold secrets show themselves without them.

use std::fmt;

use crate::v1::LoginRequest;

impl fmt::Debug for LoginRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { registry, username, password: _, auth_file } = self;
        f.debug_struct("LoginRequest")
            .field("registry", registry)
            .field("username", username)
            .field("auth_file", auth_file)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_shown() {
        let request = LoginRequest {
            registry: "quay.io".into(),
            username: "me".into(),
            password: "s3cret".into(),
            auth_file: None,
        };
        let shown = format!("{request:?} {request:#?}");
        assert!(shown.contains("quay.io") && !shown.contains("s3cret"), "{shown}");
    }
}
