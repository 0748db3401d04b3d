use proptest::prelude::*;

use super::*;

const GOOD: &str = "\
apiVersion: model.aibrix.ai/v1alpha1
kind: ModelAdapter
metadata:
  name: sql-lora
spec:
  podSelector:
    matchLabels:
      model.aibrix.ai/name: tiny-base
  artifactURL: ./adapters/sql-lora
";

fn adapter(result: &Result<Manifest, ManifestError>) -> &Document {
    match result {
        Ok(Manifest::Adapter(document)) => document,
        other => panic!("no adapter: {other:?}"),
    }
}

/// The errors of `text`, as they are shown, without the file.
fn errors(text: &str) -> Vec<String> {
    let shown = parse("f", text).into_iter().filter_map(Result::err).map(|error| error.to_string());
    shown
        .flat_map(|error| error.lines().map(|line| line.trim_start_matches("f:").to_owned()).collect::<Vec<_>>())
        .collect()
}

fn first(text: &str) -> String {
    errors(text).into_iter().next().unwrap_or_default()
}

#[test]
fn an_adapter_is_read_with_its_key_and_its_places() {
    let results = parse("sql.yaml", &format!("# words\n---\n{GOOD}"));
    let document = adapter(&results[0]);
    assert_eq!((results.len(), document.line, document.key.to_string().as_str()), (1, 3, "default/sql-lora"));
    assert_eq!(document.object.spec.artifact_url, "./adapters/sql-lora");
    assert_eq!(document.place("spec.artifactURL"), Place { line: 11, column: 16 });
    assert_eq!(document.place("spec.podSelector.matchLabels[model.aibrix.ai/name]"), Place { line: 10, column: 29 });
    // What is not written is looked for around it.
    assert_eq!(document.place("spec.updateStrategy.drainSeconds"), Place { line: 8, column: 3 });
    assert_eq!(document.place("nowhere"), Place { line: 3, column: 1 });
}

#[test]
fn a_namespace_that_is_written_is_kept() {
    let text = GOOD.replace("name: sql-lora\n", "name: sql-lora\n  namespace: team-a\n");
    assert_eq!(adapter(&parse("f", &text)[0]).key.to_string(), "team-a/sql-lora");
}

#[test]
fn json_is_read_too() {
    let json = "{\n\t\"apiVersion\": \"model.aibrix.ai/v1alpha1\", \"kind\": \"ModelAdapter\",\n\t\"metadata\": {\"name\": \"sql\"},\n\
                \t\"spec\": {\"podSelector\": {\"matchLabels\": {\"a\": \"b\"}}, \"artifactURL\": \"hf://o/r\", \"replicas\": -1}\n}\n";
    assert!(first(json).starts_with("4:"), "{}", first(json));
    assert!(first(json).contains("spec.replicas: must be 0 or more"));
    let good = json.replace("-1", "1");
    assert_eq!(adapter(&parse("f", &good)[0]).object.spec.replicas, Some(1));
}

#[test]
fn what_kubectl_prints_is_read() {
    let item = |name: &str| {
        format!(
            "- apiVersion: model.aibrix.ai/v1alpha1\n  kind: ModelAdapter\n  metadata:\n    name: {name}\n    uid: x\n    \
             creationTimestamp: 2025-02-16T19:14:50Z\n    generation: 4\n    managedFields:\n    - manager: kubectl\n      \
             fieldsV1: {{\"f:spec\": {{}}}}\n  spec:\n    podSelector: {{matchLabels: {{a: b}}}}\n    artifactURL: hf://o/r\n    \
             replicas: null\n  status: {{phase: Running, other: 1}}\n"
        )
    };
    let text = format!("apiVersion: v1\nkind: List\nitems:\n{}{}", item("one"), item("two"));
    let results = parse("f", &text);
    let (one, two) = (adapter(&results[0]), adapter(&results[1]));
    assert_eq!((one.line, two.line), (4, 19));
    assert_eq!((one.object.metadata.generation, &one.object.status), (Some(4), &None));
    assert!(one.object.metadata.creation_timestamp.is_some());
    assert_eq!(two.key.name.as_str(), "two");
}

#[test]
fn one_bad_document_never_hides_the_others() {
    let text = format!(
        "{GOOD}---\na: [1, 2\nb: 3\n---\napiVersion: v1\nkind: Service\nmetadata: {{name: web}}\n---\n- 1\n---\n{}",
        GOOD.replace("sql-lora\nspec", "other\nspec")
    );
    let results = parse("f", &text);
    assert_eq!(results.len(), 5);
    assert_eq!(adapter(&results[0]).key.name.as_str(), "sql-lora");
    let broken = results[1].as_ref().unwrap_err();
    assert_eq!((broken.line, broken.problems[0].place.line), (11, 12));
    assert_eq!(results[2], Ok(Manifest::Skipped { kind: "Service".into(), name: "web".into(), line: 14 }));
    assert!(results[3].as_ref().unwrap_err().to_string().contains("not a manifest"));
    assert_eq!(adapter(&results[4]).key.name.as_str(), "other");
}

#[test]
fn the_second_of_two_objects_with_one_name_is_refused() {
    let error = first(&format!("{GOOD}---\n{GOOD}"));
    assert_eq!(
        error,
        "14:9: metadata.name: default/sql-lora is declared already, from line 1 on: take one of the two out"
    );
}

#[test]
fn an_unknown_kind_or_version_says_what_is_understood() {
    let version = first(&GOOD.replace("v1alpha1", "v1"));
    assert_eq!(version, "1:13: apiVersion: `model.aibrix.ai/v1` has no ModelAdapter: write model.aibrix.ai/v1alpha1");
    let kind = first(&GOOD.replace("kind: ModelAdapter", "kind: ModelAdaptor"));
    assert!(kind.starts_with("2:7: kind: `ModelAdaptor` of `model.aibrix.ai/v1alpha1` is not known here"), "{kind}");
    assert!(kind.contains("understood are kind ModelAdapter of apiVersion model.aibrix.ai/v1alpha1"), "{kind}");
    let group = first("apiVersion: example.com/v1\nkind: Thing\n");
    assert!(group.starts_with("1:13: apiVersion: `Thing` of `example.com/v1` is not known here"), "{group}");
    assert_eq!(errors("a: 1\n").len(), 2, "apiVersion and kind are both missing");
}

#[test]
fn kinds_of_kubernetes_and_of_aibrix_are_passed_over() {
    for version in ["v1", "apps/v1", "batch/v1", "networking.k8s.io/v1", "autoscaling.aibrix.ai/v1alpha1"] {
        let results = parse("f", &format!("apiVersion: {version}\nkind: Any\nmetadata: {{name: x}}\nwhatever: [1]\n"));
        assert_eq!(results, [Ok(Manifest::Skipped { kind: "Any".into(), name: "x".into(), line: 1 })], "{version}");
    }
}

#[test]
fn an_unknown_field_is_caught_with_its_line() {
    let text = GOOD.replace("  artifactURL", "  artifactUrl");
    assert_eq!(
        errors(&text),
        ["9:3: spec.artifactUrl: unknown field, did you mean `artifactURL`?", "6:3: spec.artifactURL: missing"]
    );
    let text = GOOD.replace("matchLabels:", "matchLabel:");
    assert_eq!(first(&text), "7:5: spec.podSelector.matchLabel: unknown field, did you mean `matchLabels`?");
    let text = format!("{GOOD}  flavour: sweet\n");
    assert!(
        first(&text).starts_with("10:3: spec.flavour: unknown field; there are additionalConfig, "),
        "{}",
        first(&text)
    );
    let text = GOOD.replace("  name: sql-lora\n", "  name: sql-lora\n  label: {a: b}\n");
    assert_eq!(first(&text), "5:3: metadata.label: unknown field, did you mean `labels`?");
}

#[test]
fn a_value_of_another_type_says_what_to_write() {
    for (from, to, expected) in [
        (
            "tiny-base",
            "8000",
            "8:29: spec.podSelector.matchLabels[model.aibrix.ai/name]: must be text, and YAML takes it for a number: put it in quotes",
        ),
        (
            "tiny-base",
            "yes",
            "8:29: spec.podSelector.matchLabels[model.aibrix.ai/name]: must be text, and YAML takes it for true or false: put it in quotes",
        ),
        ("./adapters/sql-lora", "[a]", "9:16: spec.artifactURL: must be text, not a list"),
        (
            "./adapters/sql-lora",
            "a\n  replicas: \"2\"",
            "10:13: spec.replicas: must be a whole number: take the quotes off",
        ),
        (
            "./adapters/sql-lora",
            "a\n  replicas: 1.5",
            "10:13: spec.replicas: must be a whole number, not a number with a fraction",
        ),
        ("./adapters/sql-lora", "a\n  replicas: 3000000000", "10:13: spec.replicas: too large a number"),
        (
            "./adapters/sql-lora",
            "a\n  preemptionPolicy: Never",
            "10:21: spec.preemptionPolicy: must be one of LowerPriority, None",
        ),
        (
            "./adapters/sql-lora",
            "a\n  updateStrategy: 1",
            "10:19: spec.updateStrategy: must be a map of fields, not a number",
        ),
        (
            "  name: sql-lora",
            "  name: sql-lora\n  finalizers: a",
            "5:15: metadata.finalizers: must be a list, not text: begin each entry with `- `",
        ),
    ] {
        assert_eq!(first(&GOOD.replace(from, to)), expected);
    }
}

#[test]
fn a_selector_operator_that_does_not_exist_is_caught() {
    let text = GOOD.replace(
        "      model.aibrix.ai/name: tiny-base\n",
        "      a: b\n    matchExpressions:\n    - {key: tier, operator: Equals, values: [gold]}\n",
    );
    assert_eq!(
        first(&text),
        "10:29: spec.podSelector.matchExpressions[0].operator: must be one of In, NotIn, Exists, DoesNotExist"
    );
}

#[test]
fn a_value_that_breaks_a_rule_is_reported_in_its_line() {
    let text = GOOD.replace("matchLabels:\n      model.aibrix.ai/name: tiny-base", "matchLabels: {}");
    assert!(first(&text).starts_with("7:5: spec.podSelector: empty: it would take"), "{}", first(&text));
    let text = format!("{GOOD}  updateStrategy:\n    drainSeconds: 9999\n");
    assert_eq!(
        first(&text),
        "11:19: spec.updateStrategy.drainSeconds: must be 0 to 3600 seconds; leave it out for the controller's own bound"
    );
    let text = GOOD.replace("sql-lora\nspec", "SQL\nspec");
    assert!(first(&text).starts_with("4:9: metadata.name: the name must be a DNS-1035 label"), "{}", first(&text));
}

#[test]
fn broken_yaml_is_reported_where_it_breaks() {
    for (text, expected) in [
        ("a:\n\tb: 1\n", "2:2: not valid YAML: tabs disallowed"),
        ("x: 1\n---\na:\n  - b\n c: d\n", "5:2: not valid YAML"),
        ("a: 1\na: 2\n", "2:1: this key is here twice"),
        ("a: *nope\n", "1:4: not valid YAML: alias references unknown anchor"),
        ("? [a, b]\n: c\n", "1:3: a key must be text"),
        ("a: .nan\n", "1:4: not a number that a manifest can hold"),
        ("a: !secret x\n", "1:"),
    ] {
        let shown = errors(text);
        assert!(shown.iter().any(|error| error.starts_with(expected)), "{text:?}: {shown:?}");
    }
}

#[test]
fn a_document_that_is_too_much_is_refused_and_the_next_one_read() {
    let bomb: String = (1..9).fold("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned(), |text, i| {
        format!("{text}a{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 10].join(", "))
    });
    let texts = format!("a: &a \"{}\"\nb: [{}]\n", "x".repeat(500_000), vec!["*a"; 2000].join(", "));
    let nested: String = (0..200).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    for (text, why) in [
        (format!("a: {}\n", "x".repeat(DOCUMENT_MAX)), "1048576 are allowed"),
        (format!("a: {}\n", "[".repeat(5000)), "nested more than 32 deep"),
        (nested, "nested more than 32 deep"),
        (bomb, "aliases expand to more than 10000 values"),
        (texts, "aliases expanded, have more than 1048576 bytes"),
        (format!("a: [{}]\n", "1, ".repeat(300_000)), "too many values for one document"),
        (
            GOOD.replace("sql-lora\nspec", &format!("x\n  annotations: {{a: \"{}\"}}\nspec", "x".repeat(300_000))),
            "262144 are allowed",
        ),
    ] {
        let results = parse("f", &format!("{text}---\n{GOOD}"));
        assert_eq!(results.len(), 2, "{why}");
        let shown = results[0].as_ref().unwrap_err().to_string();
        assert!(shown.contains(why) && shown.len() < 500, "{why}: {shown:.500}");
        adapter(&results[1]);
    }
}

#[test]
fn a_document_with_thousands_of_mistakes_names_some_of_them() {
    let text: String = (0..20_000).map(|i| format!("  field{i}: x\n")).collect();
    assert_eq!(errors(&format!("{GOOD}{text}")).len(), 32);
}

#[test]
fn characters_that_cannot_be_seen_are_refused() {
    for (hidden, why) in [
        ("\\u202E", "turn the direction"),
        ("\u{200b}", "invisible"),
        ("\\u0000", "control"),
        ("\\u0085", "control"),
        ("\u{e0041}", "invisible"),
        ("\u{fffd}", "another encoding"),
    ] {
        let text = GOOD.replace("./adapters/sql-lora", &format!("\"/a{hidden}b\""));
        assert!(first(&text).starts_with("9:16: spec.artifactURL: has "), "{}", first(&text));
        assert!(first(&text).contains(why), "{}", first(&text));
    }
    let key = GOOD.replace("  artifactURL", "  \"artifact\\u200bURL\"");
    assert!(first(&key).contains("a key here has invisible characters"), "{}", first(&key));
}

#[test]
fn letters_of_any_script_are_welcome() {
    let text = GOOD
        .replace("./adapters/sql-lora", "/модели/数据库")
        .replace("sql-lora\n", "sql-lora\n  annotations: {note: 👩‍💻 ü}\n");
    assert_eq!(adapter(&parse("f", &text)[0]).object.spec.artifact_url, "/модели/数据库");
}

#[test]
fn aliases_and_merges_keep_their_places() {
    let text = "x: &labels {a: b}\n".to_owned()
        + &GOOD.replace("matchLabels:\n      model.aibrix.ai/name: tiny-base", "matchLabels: *labels");
    // The helper key is no field of the resource: the anchor has to stand where a field is.
    assert_eq!(first(&text), "1:1: x: unknown field; there are apiVersion, kind, metadata, spec, status");
    let text = GOOD
        .replace("name: sql-lora\n", "name: sql-lora\n  labels: &l {a: b}\n")
        .replace("matchLabels:\n      model.aibrix.ai/name: tiny-base", "matchLabels:\n      <<: *l\n      c: d");
    let results = parse("f", &text);
    let labels = adapter(&results[0]).object.spec.pod_selector.match_labels.clone().unwrap();
    assert_eq!(labels.into_iter().collect::<Vec<_>>(), [("a".into(), "b".into()), ("c".into(), "d".into())]);
}

#[test]
fn files_from_other_systems_are_read() {
    let windows = format!("\u{feff}{}", GOOD.replace('\n', "\r\n"));
    assert_eq!(adapter(&parse("f", &windows)[0]).place("spec.artifactURL"), Place { line: 9, column: 16 });
    assert!(parse("f", "").is_empty() && parse("f", "# nothing\n---\n").is_empty());
}

#[test]
fn i8_no_error_repeats_a_value() {
    for text in [
        "password: \"hunter2\nb: c\n".to_owned(),
        "password: hunter2: x\n".to_owned(),
        "- hunter2\n".to_owned(),
        "stringData: {a: @hunter2}\n".to_owned(),
        "a: !!int hunter2\n".to_owned(),
        GOOD.replace("./adapters/sql-lora", "ftp://me:hunter2@host/x"),
        format!("{GOOD}  additionalConfig: {{api-key: [hunter2]}}\n"),
        format!("{GOOD}  additionalConfig: {{api-key: \"hunter2 \"}}\n"),
        format!("{GOOD}  replicas: hunter2\n"),
    ] {
        let shown = errors(&text).join("\n");
        assert!(!shown.is_empty() && !shown.contains("hunter2"), "{shown}");
    }
}

#[test]
fn the_error_answers_for_itself() {
    let error = parse("f", "- 1").remove(0).unwrap_err();
    assert_eq!((error.reason(), error.is_transient()), ("InvalidManifest", false));
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,200}") {
        parse("f", &text);
    }

    #[test]
    fn no_damage_to_a_manifest_makes_it_panic_or_hides_the_next(at in 0..GOOD.len(), with in "[-\\[\\]{}:,&*!|>'\"%@#?\n\t 0a]{0,6}") {
        let (before, after) = GOOD.split_at(at);
        let text = format!("{before}{with}{after}\n---\n{}", GOOD.replace("sql-lora\nspec", "untouched\nspec"));
        let results = parse("f", &text);
        let last = results.last().map(|result| adapter(result).key.name.to_string());
        prop_assert_eq!(last.as_deref(), Some("untouched"));
        let lines = text.lines().count();
        for problem in results.iter().filter_map(|result| result.as_ref().err()).flat_map(|error| &error.problems) {
            prop_assert!(problem.place.line <= lines + 1 && !problem.message.is_empty());
        }
    }
}

#[test]
fn a_secret_is_read_as_a_cluster_reads_it() {
    let text = "apiVersion: v1\nkind: Secret\nmetadata: {name: s3, namespace: team}\n\
                data: {plain: aHVudGVyMg==, both: bm90, binary: //79}\nstringData: {both: wins, text: also}\n";
    let Manifest::Secret(secret) = parse("s.yaml", text).remove(0).unwrap() else { panic!("it is a Secret") };
    let values: Vec<_> = secret.data.iter().map(|(key, value)| (key.as_str(), value.expose())).collect();
    assert_eq!(values, [("both", "wins"), ("plain", "hunter2"), ("text", "also")]);
    assert_eq!((secret.namespace.as_str(), secret.name.as_str()), ("team", "s3"));
    assert!(!format!("{secret:?}").contains("hunter2"), "I8");
}

#[test]
fn i8_what_is_wrong_with_a_secret_is_said_without_its_values() {
    for (rest, field) in [
        ("metadata: {name: s3}\ndata: {key: hunter2!}\n", "data.key"),
        ("metadata: {name: s3}\nstringData: {key: [hunter2]}\n", "stringData.key"),
        ("metadata: {name: s3, namespace: Hunter2!}\n", "metadata.namespace"),
        ("stringData: {key: hunter2}\n", "metadata.name"),
        ("metadata: {name: s3}\nstringData: hunter2\n", ""),
    ] {
        let error = parse("s.yaml", &format!("apiVersion: v1\nkind: Secret\n{rest}")).remove(0).unwrap_err();
        assert_eq!(error.problems[0].field, field, "{error}");
        assert!(field == "metadata.namespace" || !error.to_string().contains("hunter2"), "{error}");
    }
}
