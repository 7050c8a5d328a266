//! A stack for Docker Swarm: a service a server, each with a volume of its own. May not know how a
//! server founds or joins a cluster.

use serde_json::{Map, Value, json};

use super::{GRACE_S, HTTP, Options, PEER, RenderError, founds, instance, joins, serve, yaml};
use crate::plan::Plan;

/// Folder of a server's data.
const DATA: &str = "/data";
/// The stack file.
pub(super) fn stack(plan: &Plan, options: &Options) -> Result<String, RenderError> {
    let topology = &plan.topology;
    let masters: Vec<(String, String)> =
        topology.masters.iter().map(|name| (name.clone(), format!("{name}:{PEER}"))).collect();
    let (mut services, mut volumes) = (Map::new(), Map::new());
    for (index, name) in topology.masters.iter().chain(&topology.replicas).enumerate() {
        let mut command = serve(plan, DATA);
        command.extend(["--name".to_owned(), name.clone()]);
        let advertise = format!("{name}:{PEER}");
        if topology.replicas.contains(name) {
            command.extend(joins(&masters, &advertise));
        } else if !topology.standalone {
            command.extend(founds(&masters, &advertise));
        }
        services.insert(name.clone(), service(plan, options, name, index, &command));
        volumes.insert(format!("{name}-data"), json!({}));
    }
    let (cluster, root) = (secret(plan, "cluster"), secret(plan, "root"));
    let document = json!({
        "version": "3.8",
        "services": services,
        "networks": { "servers": { "driver": "overlay" } },
        "volumes": volumes,
        "secrets": { (cluster): { "external": true }, (root): { "external": true } },
    });
    Ok(head(plan, options) + &yaml(&document)?)
}

fn secret(plan: &Plan, which: &str) -> String {
    format!("{}_{which}_password", instance(plan))
}

fn head(plan: &Plan, options: &Options) -> String {
    let (name, of) = (instance(plan), &plan.name);
    let (cluster, root) = (secret(plan, "cluster"), secret(plan, "root"));
    let (first, servers) =
        (options.port, plan.topology.masters.len() + plan.topology.replicas.len());
    let last = usize::from(first) + servers - 1;
    format!(
        "# Servers of the workload '{of}', rendered by quorate render swarm. Passwords are not in\n\
         # here; make them first, on a manager, then deploy this file:\n\
         #   printf CHOOSE-ONE | docker secret create {cluster} -\n\
         #   printf CHOOSE-ANOTHER | docker secret create {root} -\n\
         #   docker stack deploy -c FILE {name}\n\
         # Clients find the servers at the ports {first} to {last} of the machine that runs each.\n\
         # A server's data is on a volume of its machine: where there are several, give its\n\
         # service a constraint (deploy.placement.constraints: [node.hostname == NAME]).\n"
    )
}

fn service(plan: &Plan, options: &Options, name: &str, index: usize, command: &[String]) -> Value {
    let (cluster, root) = (secret(plan, "cluster"), secret(plan, "root"));
    let published = usize::from(options.port) + index;
    let mut deploy = json!({
        "replicas": 1,
        // A name stands for the server itself: connections last, nothing is to be balanced.
        "endpoint_mode": "dnsrr",
        // The former one has to be gone before the next opens its data.
        "update_config": { "order": "stop-first" },
        "restart_policy": { "condition": "any", "delay": "1s" },
    });
    let limits = plan.topology.limits;
    let mut resources = Map::new();
    if let Some(bytes) = limits.memory_bytes {
        resources.insert("memory".to_owned(), json!(bytes.to_string()));
    }
    if let Some(cpus) = limits.cpus {
        resources.insert("cpus".to_owned(), json!(cpus.to_string()));
    }
    if !resources.is_empty() {
        deploy["resources"] = json!({ "limits": resources });
    }
    json!({
        "image": options.image,
        "hostname": name,
        "command": command,
        "environment": {
            "QUORATE_CLUSTER_PASSWORD_FILE": format!("/run/secrets/{cluster}"),
            "ORIENTDB_ROOT_PASSWORD_FILE": format!("/run/secrets/{root}"),
        },
        "secrets": [
            { "source": cluster, "uid": super::USER.to_string(), "mode": 0o400 },
            { "source": root, "uid": super::USER.to_string(), "mode": 0o400 },
        ],
        // A name is found only while its server is healthy, and servers find each other by name
        // before any of them is; besides, one that is not ready would be replaced.
        "healthcheck": { "disable": true },
        "networks": ["servers"],
        "volumes": [format!("{name}-data:{DATA}")],
        // Round robin by name leaves a machine's own ports alone.
        "ports": [{ "target": HTTP, "published": published, "mode": "host" }],
        "stop_grace_period": format!("{GRACE_S}s"),
        "deploy": deploy,
    })
}
