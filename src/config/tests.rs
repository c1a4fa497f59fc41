use super::schema::{Key, LOGINS, References, Shape};
use super::*;
use crate::source::Secret;
use proptest::prelude::*;
use std::time::Duration;

const EXAMPLE: &str = include_str!("../../deploy/config.hcl");

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(Path::new("c.hcl"), text)
}

/// Lines with semicolons between them: HCL wants each key on a line of its own.
fn lines(text: &str) -> String {
    text.replace("; ", "\n")
}

#[track_caller]
fn refused(text: &str) -> (String, String) {
    let error = parse(&lines(text)).expect_err(text);
    (error.to_string(), error.hint().unwrap_or_default())
}

fn only(text: &str) -> Section {
    parse(&lines(text)).expect(text).sections.remove(0)
}

#[test]
fn the_example_is_a_configuration_and_shows_every_key() {
    let config = parse(EXAMPLE).expect("deploy/config.hcl");
    let sources = config.sections.iter().filter(|section| section.kind.is_source());
    let names: Vec<String> = sources.map(Section::source_name).collect();
    assert_eq!(names, ["vault-home", "consul", "nomad", "notes"]);
    assert_eq!(config.warnings, Vec::<String>::new());
    for kind in Kind::ALL {
        for key in kind.keys() {
            let name = key.name.rsplit('.').next().expect("a name");
            let shown = EXAMPLE.lines().any(|line| {
                let line = line.trim_start_matches([' ', '#']);
                line.starts_with(&format!("{name} ")) || line.contains(&format!(" {name} ="))
            });
            assert!(shown, "{} of {kind:?} is not in deploy/config.hcl", key.name);
        }
    }
    for (method, _) in LOGINS.into_iter().skip(1) {
        assert!(EXAMPLE.contains(&format!("auth {method:?}")), "{method}");
    }
}

#[test]
fn unknown_words_are_refused_with_their_place_and_the_nearest_known_one() {
    for (text, place, what, hint) in [
        ("vualt {}", "c.hcl:1:1", "no block \"vualt\"", "did you mean vault?"),
        ("vault {\n  adress = \"x\"\n}", "c.hcl:2:3", "vault has no key \"adress\"", "did you mean address?"),
        ("vault \"a\" { region = \"x\" }", "c.hcl:1:13", "vault \"a\" has no key \"region\"", "known are: address"),
        ("vault {; tls {;   ca = \"x\"; }; }", "c.hcl:3:3", "tls block of vault has no key \"ca\"", "ca_file"),
        ("vault {; auth \"aprole\" {}; }", "c.hcl:2:6", "no method \"aprole\"", "did you mean approle?"),
        ("vault {; auth \"jwt\" { role_id = \"x\" }; }", "c.hcl:2:14", "auth \"jwt\" has no key", "mount, role, jwt"),
        ("consul { compression = \"of\" }", "c.hcl:1:24", "compression is not one of: auto, off", "did you mean off?"),
        ("consul { token = kvs(\"a\", \"b\") }", "c.hcl:1:18", "calls kvs", "did you mean kv?"),
        ("consul {; tls { ca_file = \"x\" };  tls {}; }", "c.hcl:3:2", "tls is given twice", ""),
    ] {
        let (error, hinted) = refused(text);
        assert!(error.starts_with(place) && error.contains(what), "{text}: {error}");
        assert!(hinted.contains(hint), "{text}: {hinted}");
    }
    let (error, _) = refused("vault {\n  adress = \"hunter2\"\n}");
    assert_eq!(error, "c.hcl:2:3: vault has no key \"adress\" (in `adress = …`)");
}

#[test]
fn values_of_the_wrong_type_are_refused() {
    for (text, what) in [
        ("vault { address = 1 }", "address is a number, not a text or a list of texts"),
        ("vault { address = [] }", "address is empty"),
        ("vault { address = [1] }", "address holds a number"),
        ("vault { backup = \"yes\" }", "backup is a text, not true or false"),
        ("vault { shrink_warn_below_percent = 101 }", "0 to 100"),
        ("vault { shrink_warn_below_percent = -1 }", "0 to 100"),
        ("vault { horizon = \"90\" }", "a time like"),
        ("vault { horizon = 90 }", "horizon is a number"),
        ("vault { token = 1 }", "token is a number, not env(…), file(…) or a text"),
        ("vault { token = creds(\"a\") }", "token is creds(…), not"),
        ("vault { token = kv(\"a\", \"b\") }", "token is kv(…), not"),
        ("consul { token = kv(\"a\") }", "kv(\"mount/path\", \"field\")"),
        ("consul { token = env() }", "env(\"VARIABLE\")"),
        ("consul { token = hunter2 }", "a bare word"),
        ("consul { token = \"a${b}\" }", "a template"),
        ("consul { datacenter = env(\"X\") }", "datacenter is a reference, not a text"),
        ("consul { datacenter = null }", "datacenter is null"),
        ("consul { tls = 1 }", "tls is a number, not a block"),
        ("consul = 1", "consul is a number, not a block"),
        ("vault { headers = { \"a\" = 1 } }", "headers is a number"),
        ("repository \"x\" {}", "no label"),
        ("file { path = \"x\" }", "needs a label"),
        ("vault {; auth {}; }", "one label"),
        ("vault \"a\" \"b\" {}", "at most one label"),
        ("vault {; token = \"a\"; auth \"cert\" {}; }", "both a token and an auth"),
        ("vault {", "this is not HCL"),
        ("vault { token = 'hunter2' }", "this is not HCL"),
    ] {
        let (error, _) = refused(text);
        assert!(error.contains(what) && error.starts_with("c.hcl:"), "{text}: {error}");
        assert!(!error.contains("hunter2 ") && !error.contains("'hunter2"), "{error}");
    }
}

#[test]
fn more_blocks_than_anybody_has_are_refused() {
    let blocks = |count: usize| (0..count).map(|n| format!("vault \"v{n}\" {{}}\n")).collect::<String>();
    assert_eq!(parse(&blocks(1000)).expect("blocks").sections.len(), 1000);
    let error = parse(&blocks(1001)).expect_err("too many").to_string();
    assert!(error.starts_with("c.hcl:1001:") && error.contains("more than 1000 blocks"), "{error}");
}

#[test]
fn blocks_agree_with_each_other() {
    for (text, what, hint) in [
        ("vault {}\nvault {}", "there is a vault already, at c.hcl:1", "label"),
        ("vault \"a\" {}\nfile \"vault-a\" { path = \"x\" }", "already makes the source vault-a", "source ="),
        ("vault { source = \"Home\" }", "source name", "lower-case"),
        ("repository {}\nrepository {}", "a repository block already", ""),
        ("vault \"a\" {}\nvault \"b\" {}\nconsul { token = creds(\"c\") }", "does not say which vault", "secrets_from"),
        (
            "vault \"a\" {}\nconsul {; token = creds(\"c\"); secrets_from = \"x\"; }",
            "vault \"x\", which is not",
            "vault \"a\"",
        ),
        ("repository {; s3 { access_key_id = \"x\" }; }", "without each other", "both"),
        (
            "vault { address = \"consul://service/vault\" }\nconsul { token = creds(\"c\") }",
            "each needs the other",
            "catalog_token",
        ),
        (
            "vault \"a\" {; address = \"consul://service/a\"; catalog = \"a\"; }; \
             vault \"b\" {; address = \"consul://service/b\"; catalog = \"b\"; }; \
             consul \"a\" {; token = creds(\"c\"); secrets_from = \"b\"; }; \
             consul \"b\" {; token = creds(\"c\"); secrets_from = \"a\"; }",
            "each needs the other",
            "anonymous",
        ),
    ] {
        let (error, hinted) = refused(text);
        assert!(error.contains(what) && hinted.contains(hint), "{text}: {error} {hinted}");
    }
    for text in [
        "vault { address = \"consul://service/vault\" }; consul {; token = creds(\"c\"); catalog_token = \"anonymous\"; }",
        "vault \"a\" {}\nvault \"b\" {}; consul {; token = creds(\"c\"); secrets_from = \"b\"; }",
        "consul { token = creds(\"c\") }",
    ] {
        parse(&lines(text)).expect(text);
    }
}

#[test]
fn secrets_that_are_written_out_are_warned_of_and_never_shown() {
    let config = parse("consul {\n  token = \"hunter2\"\n}").expect("parsed");
    assert_eq!(config.warnings.len(), 1);
    assert!(config.warnings[0].starts_with("c.hcl:2: token of consul is written out"), "{:?}", config.warnings);
    assert!(!format!("{config:?} {:?}", config.warnings).contains("hunter2"));
}

#[test]
fn json_says_the_same_as_hcl() {
    let hcl = "vault \"a\" {; address = \"x\"; backup = false; auth \"jwt\" {; role = \"r\"; jwt = file(\"/j\"); }; }; \
               consul {; token = kv(\"p\", \"f\"); tls { skip_verify = true }; }; file \"n\" { path = \"p\" }";
    let json = r#"{"vault": {"a": {"address": "x", "backup": false, "auth": {"jwt": {"role": "r", "jwt": {"file": "/j"}}}}},
                   "consul": {"token": {"kv": ["p", "f"]}, "tls": {"skip_verify": true}}, "file": {"n": {"path": "p"}}}"#;
    assert_eq!(plain(parse(&lines(hcl))), plain(parse(json)));
    let list = r#"{"consul": [{"address": "x"}, {"b": {"address": "y"}}]}"#;
    let names: Vec<String> = parse(list).expect("list").sections.iter().map(Section::title).collect();
    assert_eq!(names, ["consul", "consul \"b\""]);
    let (error, hint) = refused("{\n  \"consul\": {\n    \"adress\": \"hunter2\"}}");
    assert_eq!(error, "c.hcl:3:5: consul has no key \"adress\" (in `\"adress\": …`)");
    assert!(hint.contains("did you mean address?"));
    let (error, _) = refused("{\n  \"consul\": oops}");
    assert!(error.starts_with("c.hcl:2:") && error.contains("not JSON"), "{error}");
    assert!(refused("{\"consul\": {\"token\": \"a\", \"token\": \"b\"}}").0.contains("given twice"));
}

#[test]
fn variables_beat_the_only_block_and_fill_in_for_one_without_an_address() {
    let lookup = |name: &str| {
        let known = [("VAULT_ADDR", "https://env"), ("VAULT_NAMESPACE", "env"), ("VAULT_CACERT_BYTES", "PEM")];
        known.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    };
    let merged = |text: &str| parse(&lines(text)).expect(text).merged(&lookup).sections;
    let one = "vault {; address = \"https://file\"; tls { ca_file = \"/f\" }; }";
    let one = merged(one).remove(0);
    assert_eq!(one.text("address"), Some("https://env"));
    assert_eq!(one.origin_of("namespace"), "VAULT_NAMESPACE");
    // One authority: not the file's file beside the environment's bytes.
    assert_eq!((one.text("tls.ca_file"), one.text("tls.ca_pem")), (None, Some("PEM")));
    let two = merged("vault \"a\" { address = \"https://a\" }\nvault \"b\" { namespace = \"file\" }");
    assert_eq!((two[0].texts("address"), two[0].text("namespace")), (vec!["https://a"], None));
    assert!(!two[0].sees_environment && two[1].sees_environment);
    assert_eq!((two[1].text("address"), two[1].text("namespace")), (Some("https://env"), Some("file")));
}

#[test]
fn a_login_that_is_named_beats_a_token_that_is_there() {
    let merged = |variables: &[(&str, &str)], text: &str| {
        let lookup = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        parse(&lines(text)).expect(text).merged(&lookup).sections.remove(0)
    };
    let approle = "vault {; auth \"approle\" { role_id = \"r\" }; }";
    let token = merged(&[("VAULT_TOKEN", "t")], approle);
    assert!(
        token.setting("auth").is_none() && token.setting("auth.role_id").is_none() && token.secret("token").is_some()
    );
    let jwt = [("VAULT_TOKEN", "t"), ("HAH_VAULT_AUTH", "jwt"), ("HAH_VAULT_AUTH_JWT_FILE", "/j")];
    let jwt = merged(&jwt, approle);
    assert_eq!((jwt.text("auth"), jwt.secret("token"), jwt.secret("auth.role_id")), (Some("jwt"), None, None));
    assert_eq!(jwt.secret("auth.jwt"), Some(&Reference::File("/j".into())));
    let creds = [("CONSUL_HTTP_TOKEN", "t"), ("HAH_VAULT_CONSUL_CREDS", "consul/creds/b")];
    assert_eq!(merged(&creds, "consul {}").secret("token"), Some(&Reference::Creds("consul/creds/b".into())));
}

#[test]
fn a_block_is_read_under_the_names_of_its_variables() {
    let section = only(
        "vault {; address = [\"a\", \"b\"]; follow_redirect = false; answer_timeout = \"2m\"; \
                        leader_addresses = { \"x\" = \"y\", \"z\" = \"w\" }; token = \"secret\"; }",
    );
    let found = |name: &str| section.variable(name, &|name| Some(format!("process {name}")));
    assert_eq!(found("VAULT_ADDR").as_deref(), Some("a,b"));
    assert_eq!(found("VAULT_DISABLE_REDIRECTS").as_deref(), Some("true"));
    assert_eq!(found("VAULT_CLIENT_TIMEOUT").as_deref(), Some("120000ms"));
    assert_eq!(found("HAH_VAULT_LEADER_ADDRESSES").as_deref(), Some("x=y,z=w"));
    // What is a setting is not read past it, and secrets are not handed out so.
    assert_eq!((found("VAULT_TOKEN"), found("VAULT_NAMESPACE"), found("BAO_ADDR")), (None, None, None));
    assert_eq!(found("VAULT_SRV_LOOKUP").as_deref(), Some("process VAULT_SRV_LOOKUP"));
    assert_eq!(section.key_of_variable("VAULT_ADDR"), Some("address"));
}

/// Kinds, labels and values, without their places.
type Plain = Vec<(Kind, Option<String>, Vec<(&'static str, Value)>)>;

fn plain(config: Result<Config, ConfigError>) -> Plain {
    let sections = config.expect("a configuration").sections.into_iter();
    let settings = |s: &Section| s.settings().map(|(key, setting)| (key, setting.value.clone())).collect();
    sections.map(|s| (s.kind, s.label.clone(), settings(&s))).collect()
}

fn words() -> BoxedStrategy<String> {
    prop_oneof!["[ -~\u{e4}\u{20ac}]{1,12}", "[a\n\t\"\\\\$%{}]{1,8}"].boxed()
}

fn reference(allowed: References) -> BoxedStrategy<Reference> {
    let local = prop_oneof![
        words().prop_map(|text| Reference::Literal(Secret::new(text))),
        words().prop_map(Reference::Env),
        words().prop_map(|path| Reference::File(path.into())),
    ];
    let kv = (words(), words()).prop_map(|(path, field)| Reference::Kv { path, field });
    match allowed {
        References::Local => local.boxed(),
        References::Vault => prop_oneof![local, kv].boxed(),
        References::Engine => prop_oneof![local, kv, words().prop_map(Reference::Creds)].boxed(),
        References::Aws => words().prop_map(Reference::Aws).boxed(),
    }
}

fn value(shape: Shape) -> BoxedStrategy<Value> {
    match shape {
        Shape::Text | Shape::Path => words().prop_map(Value::Text).boxed(),
        Shape::Texts => prop::collection::vec(words(), 1..3).prop_map(Value::Texts).boxed(),
        Shape::Flag => any::<bool>().prop_map(Value::Flag).boxed(),
        Shape::Percent => (0..=100_u8).prop_map(Value::Number).boxed(),
        Shape::Count => (0..=1_000_000_u32).prop_map(Value::Count).boxed(),
        Shape::Duration => (0..9999_u64).prop_map(|s| Value::Duration(Duration::from_secs(s))).boxed(),
        Shape::Choice(choices) => prop::sample::select(choices).prop_map(|text| Value::Text(text.into())).boxed(),
        Shape::Secret(allowed) => reference(allowed).prop_map(Value::Secret).boxed(),
        Shape::TextMap => prop::collection::btree_map(words(), words(), 0..3)
            .prop_map(|map| Value::TextMap(map.into_iter().collect()))
            .boxed(),
        Shape::SecretMap => prop::collection::btree_map(words(), reference(References::Local), 0..3)
            .prop_map(|map| Value::SecretMap(map.into_iter().collect()))
            .boxed(),
    }
}

/// Keys that say something about other keys or blocks have tests of their own.
fn stands_alone(key: &&'static Key) -> bool {
    let others = ["source", "secrets_from", "catalog", "kv", "address", "token"];
    !others.contains(&key.name) && !key.name.starts_with("auth") && key.group != "S3 keys"
}

fn sections() -> impl Strategy<Value = Plain> {
    let kinds = prop::sample::select(&Kind::ALL[..]);
    kinds.prop_flat_map(|kind| {
        let settings: Vec<_> = kind
            .keys()
            .filter(stands_alone)
            .map(|key| prop::option::weighted(0.4, value(key.shape)).prop_map(|value| Some((key.name, value?))))
            .collect();
        let label = match kind {
            Kind::Repository | Kind::Agent => Just(None).boxed(),
            Kind::File => "[a-z]{1,5}".prop_map(Some).boxed(),
            _ => prop::option::of("[a-z]{1,5}").boxed(),
        };
        (label, settings).prop_map(move |(label, settings)| {
            let mut settings: Vec<_> = settings.into_iter().flatten().collect();
            settings.sort_by_key(|(name, _)| *name);
            vec![(kind, label, settings)]
        })
    })
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c => out.push(c),
        }
    }
    out.push('"');
    out.replace("${", "$${").replace("%{", "%%{")
}

fn call(reference: &Reference) -> (&'static str, Vec<String>) {
    match reference {
        Reference::Literal(_) => ("", Vec::new()),
        Reference::Env(name) => ("env", vec![name.clone()]),
        Reference::File(path) => ("file", vec![path.display().to_string()]),
        Reference::Kv { path, field } => ("kv", vec![path.clone(), field.clone()]),
        Reference::Creds(path) => ("creds", vec![path.clone()]),
        Reference::Aws(path) => ("aws", vec![path.clone()]),
    }
}

/// A value in HCL, or in JSON.
fn written(value: &Value, is_json: bool) -> String {
    let text = |text: &str| if is_json { serde_json::json!(text).to_string() } else { quoted(text) };
    let one = |value: &Reference| match (value, call(value)) {
        (Reference::Literal(secret), _) => text(secret.expose()),
        (_, (name, arguments)) => {
            let arguments: Vec<String> = arguments.iter().map(|argument| text(argument)).collect();
            let arguments = arguments.join(", ");
            if is_json { format!("{{{name:?}: [{arguments}]}}") } else { format!("{name}({arguments})") }
        }
    };
    let sign = if is_json { ":" } else { "=" };
    let map = |pairs: Vec<(String, String)>| {
        let pairs: Vec<String> = pairs.iter().map(|(name, value)| format!("{} {sign} {value}", text(name))).collect();
        format!("{{ {} }}", pairs.join(", "))
    };
    match value {
        Value::Text(one) | Value::Raw(one) => text(one),
        Value::Texts(texts) => format!("[{}]", texts.iter().map(|one| text(one)).collect::<Vec<_>>().join(", ")),
        Value::Flag(flag) => flag.to_string(),
        Value::Number(number) => number.to_string(),
        Value::Count(count) => count.to_string(),
        Value::Duration(duration) => text(&format!("{}s", duration.as_secs())),
        Value::Secret(reference) => one(reference),
        Value::TextMap(pairs) => map(pairs.iter().map(|(from, to)| (from.clone(), text(to))).collect()),
        Value::SecretMap(pairs) => map(pairs.iter().map(|(name, value)| (name.clone(), one(value))).collect()),
    }
}

fn printed(sections: &Plain, is_json: bool) -> String {
    let (kind, label, settings) = &sections[0];
    let mut blocks: std::collections::BTreeMap<&str, Vec<String>> = Default::default();
    for (key, value) in settings {
        let (block, name) = key.split_once('.').unwrap_or(("", key));
        let value = written(value, is_json);
        let line = if is_json { format!("{name:?}: {value}") } else { format!("{name} = {value}\n") };
        blocks.entry(block).or_default().push(line);
    }
    let plain = blocks.remove("").unwrap_or_default();
    if is_json {
        let subs = blocks.iter().map(|(name, lines)| format!("{name:?}: {{{}}}", lines.join(",")));
        let body = plain.into_iter().chain(subs).collect::<Vec<_>>().join(",\n");
        let body = label.as_ref().map_or(format!("{{{body}}}"), |label| format!("{{{label:?}: {{{body}}}}}"));
        return format!("{{{:?}: {body}}}", kind.name());
    }
    let subs: String = blocks.iter().map(|(name, lines)| format!("{name} {{\n{}}}\n", lines.concat())).collect();
    let label = label.as_ref().map_or(String::new(), |label| format!("{label:?} "));
    format!("{} {label}{{\n{}{subs}}}\n", kind.name(), plain.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_printed_is_read_back(sections in sections()) {
        for is_json in [false, true] {
            let text = printed(&sections, is_json);
            prop_assert_eq!(plain(parse(&text)), sections.clone(), "{}", text);
        }
    }

    #[test]
    fn no_text_breaks_the_reader_and_no_message_shows_a_secret(at in 0..400_usize, with in "[ -~\n]{0,3}", json in any::<bool>()) {
        let text = match json {
            false => "consul {\n  address = \"x\"\n  token = \"hunter2-hunter2\"\n  tls { ca_file = \"y\" }\n}\n\
                      vault \"a\" {\n auth \"userpass\" {\n username = \"u\"\n password = \"hunter2-hunter2\"\n }\n}\n",
            true => "{\"consul\": {\"address\": \"x\",\n \"token\": \"hunter2-hunter2\"},\n\
                      \"vault\": {\"token\": \"hunter2-hunter2\", \"tls\": {}}}",
        };
        let at = at % text.len();
        let text = format!("{}{with}{}", &text[..at], &text[at + 1..]);
        if let Err(error) = parse(&text) {
            let shown = format!("{error} {:?} {error:?}", error.hint());
            prop_assert!(!shown.contains("hunter2-"), "{}", shown);
        }
    }
}
