//! Kubernetes: a set of MASTERs and one of REPLICAs with stable names and disks, and the services
//! in front of them. May not know how a server founds or joins a cluster.

use serde_json::{Value, json};

use super::{
    GRACE_S, HTTP, Options, PEER, RenderError, USER, founds, instance, joins, serve, yaml,
};
use crate::plan::Plan;

/// Folder of a server's data. Not the volume's root, where a file system may keep its own.
const DATA: &str = "/data/node";
/// Its own name, which Kubernetes puts into arguments.
const OWN_NAME: &str = "$(ORIENTDB_NODE_NAME)";

/// One document behind the other.
pub(super) fn manifests(plan: &Plan, options: &Options) -> Result<String, RenderError> {
    let set = Set { plan, options, name: instance(plan) };
    let (masters, replicas) = (plan.topology.masters.len(), plan.topology.replicas.len());
    let mut documents = vec![set.peers(), set.clients(), set.budget(), set.masters(masters)];
    // None is a set, too, which can be scaled.
    if !plan.topology.standalone {
        documents.push(set.replicas(masters, replicas));
    }
    let mut text = set.head();
    for document in &documents {
        text.push_str("---\n");
        text.push_str(&yaml(document)?);
    }
    Ok(text)
}

struct Set<'a> {
    plan: &'a Plan,
    options: &'a Options,
    name: String,
}

impl Set<'_> {
    fn head(&self) -> String {
        let name = &self.name;
        let namespace = self.options.namespace.as_ref();
        let within = namespace.map(|name| format!(" --namespace {name}")).unwrap_or_default();
        let growing = if self.plan.topology.standalone {
            String::new()
        } else {
            format!(
                "# More REPLICAs:\n\
                 #   kubectl scale{within} statefulset {name}-replica --replicas=NUMBER\n\
                 # The MASTERs are those named here; another one is a REPLICA that is made one:\n\
                 #   HA SET ROLE `{name}-replica-0`=MASTER\n"
            )
        };
        format!(
            "# Servers of the workload '{}', rendered by quorate render k8s. Passwords are not in\n\
             # here; make them first, then apply this file:\n\
             #   kubectl create secret generic {name}-passwords{within} \\\n\
             #     --from-literal=cluster=CHOOSE-ONE --from-literal=root=CHOOSE-ANOTHER\n\
             #   kubectl apply{within} -f FILE\n\
             # Clients find any ready server at {name}-clients:{HTTP}.\n{growing}",
            self.plan.name
        )
    }

    fn meta(&self, suffix: &str) -> Value {
        let mut meta = json!({
            "name": format!("{}{suffix}", self.name),
            "labels": self.labels(None),
        });
        if let Some(namespace) = &self.options.namespace {
            meta["namespace"] = json!(namespace);
        }
        meta
    }

    fn labels(&self, role: Option<&str>) -> Value {
        let mut labels = json!({
            "app.kubernetes.io/name": "quorate",
            "app.kubernetes.io/instance": self.name,
        });
        if let Some(role) = role {
            labels["app.kubernetes.io/component"] = json!(role);
        }
        labels
    }

    /// Names for each pod, from before it is ready on: servers need each other to get ready.
    fn peers(&self) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": self.meta(""),
            "spec": {
                "clusterIP": "None",
                "publishNotReadyAddresses": true,
                "selector": self.labels(None),
                "ports": [{ "name": "peer", "port": PEER }, { "name": "http", "port": HTTP }],
            },
        })
    }

    fn clients(&self) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": self.meta("-clients"),
            "spec": {
                "selector": self.labels(None),
                "ports": [{ "name": "http", "port": HTTP, "targetPort": "http" }],
            },
        })
    }

    /// As many MASTERs may be taken away on purpose as leave a majority.
    fn budget(&self) -> Value {
        let spare = (self.plan.topology.masters.len() - 1) / 2;
        json!({
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": self.meta("-masters"),
            "spec": {
                "maxUnavailable": spare,
                "selector": { "matchLabels": self.labels(Some("master")) },
            },
        })
    }

    /// Names and addresses of so many MASTERs.
    fn founders(&self, masters: usize) -> Vec<(String, String)> {
        let name = &self.name;
        let names = (0..masters).map(|index| format!("{name}-master-{index}"));
        names.map(|pod| (pod.clone(), format!("{pod}.{name}:{PEER}"))).collect()
    }

    /// Where others reach the pod that is started with it.
    fn advertise(&self) -> String {
        format!("{OWN_NAME}.{}:{PEER}", self.name)
    }

    fn masters(&self, masters: usize) -> Value {
        let mut arguments = serve(self.plan, DATA);
        if !self.plan.topology.standalone {
            arguments.extend(founds(&self.founders(masters), &self.advertise()));
        }
        self.servers("master", masters, &arguments)
    }

    fn replicas(&self, masters: usize, replicas: usize) -> Value {
        let mut arguments = serve(self.plan, DATA);
        arguments.extend(joins(&self.founders(masters), &self.advertise()));
        self.servers("replica", replicas, &arguments)
    }

    fn servers(&self, role: &str, count: usize, arguments: &[String]) -> Value {
        let labels = self.labels(Some(role));
        let storage = &self.options.storage;
        json!({
            "apiVersion": "apps/v1",
            "kind": "StatefulSet",
            "metadata": self.meta(&format!("-{role}")),
            "spec": {
                "serviceName": self.name,
                "replicas": count,
                // Founders are ready together or not at all.
                "podManagementPolicy": "Parallel",
                "selector": { "matchLabels": labels },
                "template": {
                    "metadata": { "labels": labels },
                    "spec": self.pod(&labels, arguments),
                },
                "volumeClaimTemplates": [{
                    "apiVersion": "v1",
                    "kind": "PersistentVolumeClaim",
                    "metadata": { "name": "data" },
                    "spec": {
                        "accessModes": ["ReadWriteOnce"],
                        "resources": { "requests": { "storage": storage } },
                    },
                }],
            },
        })
    }

    fn pod(&self, labels: &Value, arguments: &[String]) -> Value {
        let apart = json!({
            "topologyKey": "kubernetes.io/hostname",
            "labelSelector": { "matchLabels": labels },
        });
        json!({
            "terminationGracePeriodSeconds": GRACE_S,
            "securityContext": { "runAsNonRoot": true, "runAsUser": USER, "fsGroup": USER },
            // Two MASTERs on one machine are lost together.
            "affinity": { "podAntiAffinity": {
                "preferredDuringSchedulingIgnoredDuringExecution":
                    [{ "weight": 100, "podAffinityTerm": apart }],
            } },
            "containers": [self.container(arguments)],
        })
    }

    fn container(&self, arguments: &[String]) -> Value {
        let secret = |key: &str| {
            let name = format!("{}-passwords", self.name);
            json!({ "secretKeyRef": { "name": name, "key": key } })
        };
        let own_name = json!({ "fieldRef": { "fieldPath": "metadata.name" } });
        let mut container = json!({
            "name": "node",
            "image": self.options.image,
            "args": arguments,
            "env": [
                { "name": "ORIENTDB_NODE_NAME", "valueFrom": own_name },
                { "name": "QUORATE_CLUSTER_PASSWORD", "valueFrom": secret("cluster") },
                { "name": "ORIENTDB_ROOT_PASSWORD", "valueFrom": secret("root") },
            ],
            "ports": [
                { "name": "http", "containerPort": HTTP },
                { "name": "peer", "containerPort": PEER },
            ],
            "readinessProbe": {
                "httpGet": { "path": "/health", "port": "http" },
                "periodSeconds": 2,
                "timeoutSeconds": 2,
            },
            // Whoever answers at all is alive; a server that aligns must not be killed for it.
            "livenessProbe": {
                "httpGet": { "path": "/ping", "port": "http" },
                "initialDelaySeconds": 30,
                "periodSeconds": 10,
                "timeoutSeconds": 5,
                "failureThreshold": 6,
            },
            "securityContext": {
                "allowPrivilegeEscalation": false,
                "capabilities": { "drop": ["ALL"] },
            },
            "volumeMounts": [{ "name": "data", "mountPath": "/data" }],
        });
        let limits = self.limits();
        if limits.as_object().is_some_and(|limits| !limits.is_empty()) {
            container["resources"] = json!({ "requests": limits, "limits": limits });
        }
        container
    }

    fn limits(&self) -> Value {
        let limits = self.plan.topology.limits;
        let mut map = serde_json::Map::new();
        if let Some(bytes) = limits.memory_bytes {
            map.insert("memory".to_owned(), json!(bytes.to_string()));
        }
        if let Some(cpus) = limits.cpus {
            map.insert("cpu".to_owned(), json!(format!("{:.0}m", cpus * 1_000.0)));
        }
        Value::Object(map)
    }
}
