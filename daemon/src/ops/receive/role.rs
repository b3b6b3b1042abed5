//! What a pushed manifest becomes in its repository (DESIGN sections 5 and 8).

use larder_core::artifact::{DigestTag, TagSuffix};
use larder_core::{Digest, Reference, Repository, Tag};

use crate::ops::serve::Named;
use crate::store::record::SubjectRole;

/// What a pushed manifest becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// It becomes a subject.
    pub subject: Option<SubjectRole>,
    /// It becomes attached to this digest.
    pub attached_to: Option<Digest>,
    /// The tag that names what it is attached to.
    pub found_by_tag: Option<Tag>,
    /// What its children become, if it is an index.
    pub children: Children,
}

/// What the children of a pushed index become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Children {
    /// Subjects that came through it.
    Subjects,
    /// Things that are attached to this digest.
    Attached(Digest),
    /// Nothing that they were not before.
    AsTheyAre,
}

/// Says why a manifest may not be here as what it is.
#[derive(Debug, thiserror::Error)]
pub enum RoleError {
    /// A subject, under a registry's name.
    #[error(
        "{reference} would put an image under a registry's name, where only signatures and other attached artifacts and their tags are taken; push to a local repository ({}), or list {} under endpoint.push_to in config.toml", .reference.repository.path(), .reference.repository
    )]
    Foreign {
        /// What it was pushed as.
        reference: Reference,
    },
}

/// Decides what a manifest becomes that is pushed as `named` and has `subject` as its `subject` field.
///
/// # Errors
/// Fails where it would be a subject, and the repository takes none (`may_push`).
pub fn decide(
    repository: &Repository,
    named: &Named,
    subject: Option<Digest>,
    may_push: bool,
) -> Result<Role, RoleError> {
    let role = match named {
        // A signature image must not become a subject by its tag, whatever lies in it: nor may an
        // ordinary image that somebody put there.
        Named::Tag(tag) if DigestTag::is_reserved(tag) => {
            let names = DigestTag::parse(tag);
            let attached_to = names.map(|names| names.digest).or(subject);
            Role {
                subject: None,
                attached_to,
                found_by_tag: names.map(|_| tag.clone()),
                children: match names {
                    Some(DigestTag { digest, suffix: TagSuffix::Fallback }) => Children::Attached(digest),
                    Some(_) | None => Children::AsTheyAre,
                },
            }
        }
        Named::Tag(_) => Role {
            subject: Some(SubjectRole::Root),
            attached_to: subject,
            found_by_tag: None,
            children: Children::Subjects,
        },
        Named::Digest(_) => match subject {
            Some(subject) => Role {
                subject: None,
                attached_to: Some(subject),
                found_by_tag: None,
                children: Children::Attached(subject),
            },
            None => Role {
                subject: Some(SubjectRole::Root),
                attached_to: None,
                found_by_tag: None,
                children: Children::Subjects,
            },
        },
    };
    if role.subject.is_some() && !may_push {
        return Err(RoleError::Foreign { reference: named.within(repository) });
    }
    Ok(role)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository(name: &str) -> Repository {
        name.parse().expect("repository")
    }

    fn tag(text: &str) -> Named {
        Named::Tag(text.parse().expect("tag"))
    }

    fn local(named: &Named, subject: Option<Digest>) -> Role {
        decide(&repository("localhost/x"), named, subject, true).expect("local repositories take all")
    }

    #[test]
    fn tags_and_digests_make_subjects() {
        let other = Digest::of(b"other");
        let plain = local(&tag("1.0"), None);
        assert_eq!((plain.subject, plain.attached_to), (Some(SubjectRole::Root), None));
        assert_eq!(plain.children, Children::Subjects);
        let both = local(&tag("1.0"), Some(other));
        assert_eq!((both.subject, both.attached_to), (Some(SubjectRole::Root), Some(other)));
        let by_digest = local(&Named::Digest(Digest::of(b"x")), None);
        assert_eq!((by_digest.subject, by_digest.attached_to), (Some(SubjectRole::Root), None));
        let referrer = local(&Named::Digest(Digest::of(b"x")), Some(other));
        assert_eq!((referrer.subject, referrer.attached_to), (None, Some(other)));
        assert_eq!(referrer.children, Children::Attached(other));
    }

    #[test]
    fn reserved_tags_never_make_subjects() {
        let digest = Digest::of(b"x");
        let hex = digest.hex();
        for suffix in [".sig", ".att", ".sbom"] {
            let role = local(&tag(&format!("sha256-{hex}{suffix}")), Some(Digest::of(b"other")));
            assert_eq!((role.subject, role.attached_to), (None, Some(digest)), "{suffix}");
            assert_eq!(role.found_by_tag.map(|tag| tag.to_string()), Some(format!("sha256-{hex}{suffix}")));
            assert_eq!(role.children, Children::AsTheyAre);
        }
        let fallback = local(&tag(&format!("sha256-{hex}")), None);
        assert_eq!((fallback.subject, fallback.children), (None, Children::Attached(digest)));
        let unknown = local(&tag(&format!("sha256-{hex}.sig.old")), None);
        assert_eq!((unknown.subject, unknown.attached_to, unknown.found_by_tag), (None, None, None));
    }

    #[test]
    fn a_registrys_name_takes_attached_things_only() {
        let repository = repository("docker.io/acme/app");
        let decide = |named: &Named, subject| decide(&repository, named, subject, false);
        let digest = Digest::of(b"x");
        assert!(matches!(decide(&tag("1.0"), None), Err(RoleError::Foreign { .. })));
        assert!(matches!(decide(&tag("1.0"), Some(digest)), Err(RoleError::Foreign { .. })));
        let error = decide(&Named::Digest(digest), None).expect_err("a subject");
        assert!(error.to_string().contains("endpoint.push_to"), "{error}");
        assert!(decide(&Named::Digest(digest), Some(digest)).is_ok());
        assert!(decide(&tag(&format!("sha256-{}.sig", digest.hex())), None).is_ok());
        assert!(super::decide(&repository, &tag("1.0"), None, true).is_ok());
    }
}
