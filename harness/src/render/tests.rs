//! Every document of what is rendered is read back by types made from the published schema.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::*;
use crate::plan::build;
use crate::spec::{Overrides, workload};

fn plan(text: &str) -> Plan {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("w.yaml");
    std::fs::write(&file, text).unwrap();
    build(&workload(&file, &Overrides::default()).unwrap(), 1).unwrap()
}

fn options() -> Options {
    Options { image: "registry/node:1".into(), namespace: None, storage: "10Gi".into(), port: 2480 }
}

const FIVE: &str = "name: 5-and-2\n\
    topology: { masters: 5, replicas: 2, memory: 256MiB, cpus: 0.5 }";

fn documents(text: &str) -> Vec<Value> {
    let bodies = text.split("---\n").skip(1);
    bodies.map(|body| serde_saphyr::from_str(body).unwrap()).collect()
}

/// Read as its type and written again, a document is what it was: no field is unknown, and none
/// has another shape than the schema's.
fn same<T: Serialize + DeserializeOwned>(document: &Value) {
    let read: T = serde_json::from_value(document.clone()).unwrap();
    let mut written = serde_json::to_value(&read).unwrap();
    sort(&mut written);
    let mut document = document.clone();
    sort(&mut document);
    let lines = |value| serde_json::to_string_pretty(value).unwrap();
    assert_eq!(lines(&document), lines(&written));
}

/// Order of keys says nothing.
fn sort(value: &mut Value) {
    value.sort_all_objects();
}

/// FEATURES: H4
#[test]
fn every_manifest_is_of_the_published_schema() {
    let text = render(&plan(FIVE), Target::Kubernetes, &options()).unwrap();
    let documents = documents(&text);
    let kinds: Vec<&str> = documents.iter().map(|d| d["kind"].as_str().unwrap()).collect();
    let sets = "Service Service PodDisruptionBudget StatefulSet StatefulSet";
    assert_eq!(kinds.join(" "), sets);
    for document in &documents {
        match document["kind"].as_str().unwrap() {
            "Service" => same::<Service>(document),
            "PodDisruptionBudget" => same::<PodDisruptionBudget>(document),
            "StatefulSet" => same::<StatefulSet>(document),
            other => panic!("{other}"),
        }
    }
}

#[test]
fn masters_found_and_replicas_join_by_names_that_stay() {
    let text = render(&plan(FIVE), Target::Kubernetes, &options()).unwrap();
    let documents = documents(&text);
    let arguments = |index: usize| {
        let container = &documents[index]["spec"]["template"]["spec"]["containers"][0];
        let words = container["args"].as_array().unwrap();
        words.iter().map(|word| word.as_str().unwrap()).collect::<Vec<_>>().join(" ")
    };
    let masters = arguments(3);
    assert!(masters.contains("--masters q-5-and-2-master-0,q-5-and-2-master-1,"), "{masters}");
    let dial = "--dial q-5-and-2-master-4=q-5-and-2-master-4.q-5-and-2:2424";
    assert!(masters.contains(dial), "{masters}");
    let replicas = arguments(4);
    assert!(replicas.contains("--join q-5-and-2-master-0.q-5-and-2:2424,"), "{replicas}");
    let advertise = "--advertise $(ORIENTDB_NODE_NAME).q-5-and-2:2424";
    assert!(masters.contains(advertise) && replicas.contains(advertise), "{replicas}");
    assert_eq!(documents[2]["spec"]["maxUnavailable"], 2, "five of which three are a majority");
    let limits = &documents[3]["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"];
    assert_eq!(limits["memory"], "268435456");
    assert_eq!(limits["cpu"], "500m");
    let secret = "kind: Secret";
    assert!(!text.contains(secret), "passwords are for people to make");
}

#[test]
fn a_stack_has_a_service_a_server() {
    let text = render(&plan(FIVE), Target::Swarm, &options()).unwrap();
    let stack: Value = serde_saphyr::from_str(&text).unwrap();
    let services = stack["services"].as_object().unwrap();
    let names: Vec<&str> = services.keys().map(String::as_str).collect();
    assert_eq!(names.join(" "), "n1 n2 n3 n4 n5 r1 r2");
    for (name, service) in services {
        assert_eq!(service["deploy"]["endpoint_mode"], "dnsrr", "{name}");
        assert_eq!(service["healthcheck"]["disable"], true, "{name} could not be found else");
        assert_eq!(service["deploy"]["resources"]["limits"]["memory"], "268435456", "{name}");
    }
    assert_eq!(stack["secrets"].as_object().unwrap().len(), 2);
}

#[test]
fn what_no_engine_would_take_is_refused_by_name() {
    let refused = |options: Options| {
        render(&plan(FIVE), Target::Kubernetes, &options).unwrap_err().to_string()
    };
    let namespace = refused(Options { namespace: Some("Not_One".into()), ..options() });
    assert!(namespace.starts_with("--namespace: 'Not_One'"), "{namespace}");
    let storage = refused(Options { storage: "10 GB".into(), ..options() });
    assert!(storage.starts_with("--storage: '10 GB'"), "{storage}");
    let port = refused(Options { port: 65_533, ..options() });
    assert!(port.starts_with("--port: '65533'"), "{port}");
    let image = refused(Options { image: String::new(), ..options() });
    assert!(image.starts_with("--image: ''"), "{image}");
}
