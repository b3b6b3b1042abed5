//! Conditions in Rego, the language of Open Policy Agent, over what an attestation says.
//!
//! A condition is an operator's text; what it is asked about comes from strangers. So the text is parsed once, when it is read,
//! and the evaluation is bounded: input by its length, work by time. There are no built-ins that read a clock, the network
//! or the machine, and chance is refused: the same text gives the same answer about the same bytes. It is therefore a
//! check like any other, computed once and kept.

use std::num::NonZeroU32;
use std::time::Duration;

use regorus::utils::limits::ExecutionTimerConfig;
use regorus::{Engine, Value};
use sha2::{Digest as _, Sha256};

use crate::key::AnchorId;

/// The longest text of a condition.
pub const MAX_CONDITION_BYTES: usize = 64 << 10;
/// How deep brackets may be nested: the library goes down with them, to the end of its stack.
const MAX_NESTING: usize = 48;
/// The longest statement that a condition is asked about: as values it takes many times that.
pub const MAX_INPUT_BYTES: usize = 8 << 20;
/// How long an evaluation may take; strangers choose the input of conditions that are quadratic or worse.
const LIMIT: Duration = Duration::from_secs(2);
/// How many steps lie between two looks at the time.
const STEPS: NonZeroU32 = NonZeroU32::MIN.saturating_add(255);

/// What is asked of a text: which rule must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Query {
    /// `data.signature.allow`, which must be true: cosign's `verify-attestation --policy`.
    Allow,
    /// `data.sigstore.isCompliant`, which must be true, or list an object whose `result` is: policy-controller's.
    IsCompliant,
}

impl Query {
    fn rule(self) -> &'static str {
        match self {
            Self::Allow => "data.signature.allow",
            Self::IsCompliant => "data.sigstore.isCompliant",
        }
    }

    fn accepts(self, value: &Value) -> bool {
        let results = match (self, value) {
            (_, Value::Bool(holds)) => return *holds,
            (Self::Allow, _) => return false,
            (Self::IsCompliant, Value::Array(list)) => list.iter().collect::<Vec<_>>(),
            (Self::IsCompliant, Value::Set(list)) => list.iter().collect(),
            (Self::IsCompliant, _) => return false,
        };
        // As policy-controller reads the list: up to the first that is none of its objects.
        let objects = results.into_iter().map_while(|one| one.as_object().ok());
        objects.into_iter().any(|object| object.get(&Value::from("result")) == Some(&Value::Bool(true)))
    }
}

/// A condition that could be parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    id: AnchorId,
    text: String,
    query: Query,
    predicate_type: String,
}

/// Says why a condition does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unmet {
    /// The rule is something else than true, or undefined.
    #[error("{} is not true", .0.rule())]
    NotTrue(Query),
    /// The statement is too long.
    #[error("the statement has {0} bytes; conditions are asked about at most 8 MiB")]
    TooLong(usize),
    /// It could not be evaluated, or not in time.
    #[error("it cannot be evaluated: {0}")]
    Failed(String),
}

impl Condition {
    /// Parses a text that is asked about attestations of a type, in the Rego of OPA before 1.0, as cosign does; `import
    /// rego.v1` is understood.
    ///
    /// # Errors
    /// Fails, with words for people, where it is too long, no Rego, or asks for chance.
    pub fn parse(text: &str, query: Query, predicate_type: &str) -> Result<Self, String> {
        if text.len() > MAX_CONDITION_BYTES {
            return Err(format!("it has {} bytes; {MAX_CONDITION_BYTES} are the most", text.len()));
        }
        if nesting(text) > MAX_NESTING {
            return Err(format!("its brackets are nested deeper than {MAX_NESTING}"));
        }
        if text.contains("rand.intn") {
            return Err("rand.intn would give another answer each time".to_owned());
        }
        engine(text).map(drop)?;
        let mut hasher = Sha256::new();
        for part in ["rego", query.rule(), predicate_type, text] {
            hasher.update((part.len() as u64).to_be_bytes());
            hasher.update(part);
        }
        let id = AnchorId(hasher.finalize().into());
        Ok(Self { id, text: text.to_owned(), query, predicate_type: predicate_type.to_owned() })
    }

    /// Returns a hash of all that makes it this condition.
    pub fn id(&self) -> AnchorId {
        self.id
    }

    /// Says whether it is about attestations of a type; of others it says nothing.
    pub fn is_about(&self, predicate_type: Option<&str>) -> bool {
        predicate_type == Some(&self.predicate_type)
    }

    /// Says whether the condition holds for a statement, JSON.
    ///
    /// # Errors
    /// Fails where it does not, or could not be evaluated within its bounds.
    pub fn check(&self, statement: &[u8]) -> Result<(), Unmet> {
        if statement.len() > MAX_INPUT_BYTES {
            return Err(Unmet::TooLong(statement.len()));
        }
        let failed = |error: String| Unmet::Failed(cut(&error));
        let text = std::str::from_utf8(statement).map_err(|_| failed("the statement is no UTF-8 text".to_owned()))?;
        let input = Value::from_json_str(text).map_err(|error| failed(error.to_string()))?;
        let mut engine = engine(&self.text).map_err(failed)?;
        engine.set_input(input);
        match engine.eval_rule(self.query.rule().to_owned()) {
            Ok(value) if self.query.accepts(&value) => Ok(()),
            Ok(_) => Err(Unmet::NotTrue(self.query)),
            Err(error) => Err(failed(error.to_string())),
        }
    }
}

fn engine(text: &str) -> Result<Engine, String> {
    let mut engine = Engine::new();
    engine.set_rego_v0(true);
    engine.set_execution_timer_config(ExecutionTimerConfig { limit: LIMIT, check_interval: STEPS });
    engine.add_policy("policy.rego".to_owned(), text.to_owned()).map_err(|error| cut(&error.to_string()))?;
    Ok(engine)
}

/// Returns how deep brackets are nested, those in texts and comments not counted.
fn nesting(text: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '(' | '[' | '{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            '#' => drop(letters.by_ref().find(|&end| end == '\n')),
            '`' => drop(letters.by_ref().find(|&end| end == '`')),
            '"' => {
                while let Some(inside) = letters.next() {
                    match inside {
                        '\\' => drop(letters.next()),
                        '"' => break,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    deepest
}

/// Makes one line of the library's words, which show the place in many.
fn cut(words: &str) -> String {
    const MOST: usize = 300;
    let line = words.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(MOST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATEMENT: &[u8] = br#"{"_type": "https://in-toto.io/Statement/v0.1", "predicateType": "t",
        "predicate": {"Data": "{\"level\": 3}", "items": [1, 2, 3]}}"#;

    fn allow(body: &str) -> Condition {
        let text = format!("package signature\ndefault allow = false\n{body}\n");
        Condition::parse(&text, Query::Allow, "t").unwrap_or_else(|error| panic!("{body}: {error}"))
    }

    #[test]
    fn a_rule_must_be_true_and_nothing_else() {
        for (body, holds) in [
            ("allow { input.predicateType == \"t\" }", true),
            ("allow { input.predicateType == \"u\" }", false),
            ("allow { json.unmarshal(input.predicate.Data).level > 2 }", true),
            ("allow { input.nothing.here }", false),
            ("allow = 1 { true }", false),
            ("allow = \"true\" { true }", false),
            ("allow { regex.match(`^t$`, input.predicateType); count(input.predicate.items) == 3 }", true),
            ("allow { base64.decode(\"eA==\") == \"x\" }", true),
        ] {
            assert_eq!(allow(body).check(STATEMENT).is_ok(), holds, "{body}");
        }
        let elsewhere = Condition::parse("package other\nallow { true }\n", Query::Allow, "t").expect("Rego");
        assert!(matches!(elsewhere.check(STATEMENT), Err(Unmet::Failed(_) | Unmet::NotTrue(_))));
        let v1 = "package signature\nimport rego.v1\nallow if input.predicateType == \"t\"\n";
        assert_eq!(Condition::parse(v1, Query::Allow, "t").expect("Rego v1").check(STATEMENT), Ok(()));
    }

    #[test]
    fn policy_controllers_results_may_be_lists() {
        for (body, holds) in [
            ("isCompliant = true { input.predicateType == \"t\" }", true),
            ("isCompliant[r] { r := {\"result\": true, \"warning\": \"w\"} }", true),
            ("isCompliant[r] { r := {\"result\": false, \"error\": \"e\"} }", false),
            ("isCompliant[r] { r := {\"result\": \"true\"} }", false),
            ("isCompliant = [1, {\"result\": true}] { true }", false),
            ("isCompliant = {\"result\": true} { true }", false),
            ("allow { true }", false),
        ] {
            let text = format!("package sigstore\n{body}\n");
            let condition = Condition::parse(&text, Query::IsCompliant, "t").expect("Rego");
            assert_eq!(condition.check(STATEMENT).is_ok(), holds, "{body}");
        }
    }

    #[test]
    fn what_reaches_beyond_the_statement_does_not_hold() {
        for body in [
            "allow { http.send({\"method\": \"get\", \"url\": \"http://127.0.0.1/\"}).status_code == 200 }",
            "allow { time.now_ns() > 0 }",
            "allow { opa.runtime().env.HOME != \"\" }",
            "allow { net.lookup_ip_addr(\"localhost\") }",
            "allow { uuid.rfc4122(\"x\") != \"\" }",
        ] {
            let text = format!("package signature\n{body}\n");
            let holds = Condition::parse(&text, Query::Allow, "t").is_ok_and(|one| one.check(STATEMENT).is_ok());
            assert!(!holds, "{body}");
        }
        assert!(
            Condition::parse("package signature\nallow { rand.intn(\"x\", 2) == 1 }\n", Query::Allow, "t").is_err()
        );
    }

    #[test]
    fn work_and_input_are_bounded() {
        let endless = allow("allow { some i, j, k; l := numbers.range(1, 3000); l[i] + l[j] + l[k] == 100000 }");
        let begun = std::time::Instant::now();
        assert!(matches!(endless.check(STATEMENT), Err(Unmet::Failed(_))));
        assert!(begun.elapsed() < LIMIT * 10, "{:?}", begun.elapsed());
        let long = [b" ".repeat(MAX_INPUT_BYTES), b"{}".to_vec()].concat();
        assert!(matches!(allow("allow { true }").check(&long), Err(Unmet::TooLong(_))));
        for deep in [("[", "]"), ("{\"a\":", "}")] {
            let text = format!("{}1{}", deep.0.repeat(100_000), deep.1.repeat(100_000));
            assert!(allow("allow { input }").check(text.as_bytes()).is_err());
        }
        for broken in [&b""[..], b"{", b"\xff", b"{} {}"] {
            assert!(allow("allow { true }").check(broken).is_err());
        }
    }

    #[test]
    fn what_is_no_rego_is_refused_when_it_is_read() {
        let nested = format!("package signature\nallow {{ {}1{} == 1 }}", "(".repeat(50_000), ")".repeat(50_000));
        let lists = format!("package signature\nallow {{ x := {}1{} }}", "[\n".repeat(10_000), "]\n".repeat(10_000));
        let broken = ["", "allow { true }", "package signature\nallow {", "predicate: {}"];
        for text in broken.into_iter().chain([nested.as_str(), lists.as_str()]) {
            assert!(Condition::parse(text, Query::Allow, "t").is_err(), "{text:.40}");
        }
        assert!(Condition::parse(&" ".repeat(MAX_CONDITION_BYTES + 1), Query::Allow, "t").is_err());
    }

    #[test]
    fn brackets_in_texts_and_comments_nest_nothing() {
        for (text, depth) in
            [("a[b(c{})]", 3), ("\"[[[\" `((\"(` # {{{\n[1]", 1), (r#""\"[[" []"#, 1), ("]]][", 1), ("\"[", 0), ("", 0)]
        {
            assert_eq!(nesting(text), depth, "{text}");
        }
    }

    #[test]
    fn another_text_type_or_query_is_another_check() {
        let id = |text: &str, query, of| Condition::parse(text, query, of).expect("Rego").id();
        let (text, other) = ("package signature\nallow { true }\n", "package signature\nallow { 1 == 1 }\n");
        let ids = [
            id(text, Query::Allow, "a"),
            id(text, Query::Allow, "b"),
            id(text, Query::IsCompliant, "a"),
            id(other, Query::Allow, "a"),
        ];
        assert_eq!(ids.iter().collect::<std::collections::BTreeSet<_>>().len(), ids.len());
    }
}
