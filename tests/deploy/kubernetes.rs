//! Kubernetes objects: against the rules of the "restricted" pod security standard.

use super::files::of;
use yaml_rust2::{Yaml, YamlLoader};

fn objects() -> Vec<Yaml> {
    let mut objects = Vec::new();
    for file in of(".yaml").into_iter().filter(|file| file.name.starts_with("kubernetes/")) {
        let parsed = YamlLoader::load_from_str(&file.text);
        objects.extend(parsed.unwrap_or_else(|error| panic!("{}: {error}", file.name)));
    }
    objects
}

fn of_kind(kind: &str) -> Vec<Yaml> {
    let found: Vec<Yaml> = objects().into_iter().filter(|object| object["kind"].as_str() == Some(kind)).collect();
    assert!(!found.is_empty(), "no {kind}");
    found
}

fn pods() -> Vec<Yaml> {
    of_kind("CronJob").iter().map(|job| job["spec"]["jobTemplate"]["spec"]["template"].clone()).collect()
}

#[test]
fn pods_keep_to_the_restricted_standard() {
    for pod in pods() {
        let pod = &pod["spec"];
        let of_pod = &pod["securityContext"];
        assert_eq!(of_pod["runAsNonRoot"].as_bool(), Some(true));
        assert!(of_pod["runAsUser"].as_i64().is_some_and(|user| user > 0));
        assert_eq!(of_pod["seccompProfile"]["type"].as_str(), Some("RuntimeDefault"));
        for field in ["hostNetwork", "hostPID", "hostIPC", "initContainers"] {
            assert!(pod[field].is_badvalue(), "{field}");
        }
        for container in pod["containers"].as_vec().expect("containers") {
            let context = &container["securityContext"];
            assert_eq!(context["allowPrivilegeEscalation"].as_bool(), Some(false));
            assert_eq!(context["readOnlyRootFilesystem"].as_bool(), Some(true));
            let dropped = context["capabilities"]["drop"].as_vec().expect("drop");
            assert!(dropped.iter().any(|capability| capability.as_str() == Some("ALL")));
            assert!(context["capabilities"]["add"].is_badvalue());
            assert_eq!(container["resources"]["limits"]["memory"].as_str(), Some("256Mi"));
            assert_eq!(container["resources"]["limits"]["cpu"].as_str(), Some("500m"));
        }
        let kinds = ["configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected"];
        for volume in pod["volumes"].as_vec().expect("volumes") {
            assert!(kinds.iter().any(|kind| !volume[*kind].is_badvalue()), "{volume:?}");
        }
    }
}

#[test]
fn the_only_credential_is_a_short_lived_token_for_vault() {
    assert!(objects().iter().all(|object| object["kind"].as_str() != Some("Secret")));
    for account in of_kind("ServiceAccount") {
        assert_eq!(account["automountServiceAccountToken"].as_bool(), Some(false));
    }
    for pod in pods() {
        let pod = &pod["spec"];
        assert_eq!(pod["automountServiceAccountToken"].as_bool(), Some(false));
        let volumes = pod["volumes"].as_vec().expect("volumes");
        let tokens: Vec<&Yaml> = volumes.iter().flat_map(|v| v["projected"]["sources"].as_vec()).flatten().collect();
        let [token] = tokens[..] else { panic!("one token") };
        let token = &token["serviceAccountToken"];
        assert_eq!(token["audience"].as_str(), Some("vault"));
        assert!(token["expirationSeconds"].as_i64().is_some_and(|seconds| seconds <= 600));
        // Where the program is told to look for it.
        let config = &of_kind("ConfigMap")[0];
        let mount = pod["containers"][0]["volumeMounts"][0]["mountPath"].as_str().expect("path");
        let file = format!("{mount}/{}", token["path"].as_str().expect("path"));
        assert_eq!(config["data"]["HAH_VAULT_AUTH_JWT_FILE"].as_str(), Some(file.as_str()));
    }
}

#[test]
fn jobs_do_not_overlap_and_their_pods_reach_only_what_they_need() {
    for job in of_kind("CronJob") {
        assert_eq!(job["spec"]["concurrencyPolicy"].as_str(), Some("Forbid"));
    }
    let label = "app.kubernetes.io/name";
    for pod in pods() {
        let name = &pod["metadata"]["labels"][label];
        let policies = of_kind("NetworkPolicy");
        let covers = |policy: &&Yaml| &policy["spec"]["podSelector"]["matchLabels"][label] == name;
        let policy = policies.iter().find(covers).expect("a policy for the pod");
        let types = policy["spec"]["policyTypes"].as_vec().expect("types");
        assert_eq!(types.iter().filter_map(Yaml::as_str).collect::<Vec<_>>(), ["Ingress", "Egress"]);
        assert_eq!(policy["spec"]["ingress"].as_vec().map(Vec::len), Some(0));
        for rule in policy["spec"]["egress"].as_vec().expect("egress") {
            assert!(rule["to"].as_vec().is_some_and(|to| !to.is_empty()), "everywhere");
            assert!(rule["ports"].as_vec().is_some_and(|ports| !ports.is_empty()), "every port");
        }
    }
}

#[test]
fn everything_is_in_one_restricted_namespace() {
    let namespace = &of_kind("Namespace")[0];
    let name = namespace["metadata"]["name"].as_str().expect("name");
    let enforce = &namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"];
    assert_eq!(enforce.as_str(), Some("restricted"));
    for object in objects().iter().filter(|object| object["kind"].as_str() != Some("Namespace")) {
        assert_eq!(object["metadata"]["namespace"].as_str(), Some(name));
    }
}

#[test]
fn what_has_to_be_there_before_is_said() {
    let text: String =
        of(".yaml").into_iter().filter(|file| file.name.starts_with("kubernetes/")).map(|file| file.text).collect();
    let made: Vec<Yaml> = of_kind("ConfigMap").iter().map(|map| map["metadata"]["name"].clone()).collect();
    for pod in pods() {
        let volumes = pod["spec"]["volumes"].as_vec().expect("volumes").iter();
        for map in
            volumes.map(|volume| &volume["configMap"]).filter(|map| !map.is_badvalue() && !made.contains(&map["name"]))
        {
            let name = map["name"].as_str().expect("name");
            assert!(text.contains(&format!("create configmap {name} --from-file=")), "{name}");
        }
    }
}
