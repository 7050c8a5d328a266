//! Files with which existing engines place the servers of a workload's topology on many machines.
//! Text in, text out: nothing is started here, and no password is written anywhere.

mod k8s;
mod swarm;
#[cfg(test)]
mod tests;

use serde_json::Value;

use crate::plan::Plan;

/// Port for clients, in containers.
const HTTP: u16 = 2480;
/// Port for other servers, in containers.
const PEER: u16 = 2424;
/// User and group of the image.
const USER: u32 = 65_532;
/// Seconds that a server has to end in order before it is killed; it takes nine at most.
const GRACE_S: u32 = 30;
/// Longest name of an instance: names of pods are built from it, and a label has 63 characters.
const NAME_MAX: usize = 40;

/// For which engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Kubernetes manifests, for `kubectl apply`.
    Kubernetes,
    /// A stack file, for `docker stack deploy`.
    Swarm,
}

/// What the plan does not say.
#[derive(Debug, Clone)]
pub struct Options {
    /// Image of the server, as the engine's machines find it.
    pub image: String,
    /// Namespace of the manifests; `None`: that of who applies them.
    pub namespace: Option<String>,
    /// Room for each server's data, as Kubernetes writes it, such as `10Gi`.
    pub storage: String,
    /// Port for clients at the first server's machine in a stack; the next server's is one above.
    pub port: u16,
}

/// Why there is nothing to write.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// Distances are simulated.
    #[error("network: distances between servers are simulated; leave `network` out")]
    Simulated,
    /// The engine would refuse it.
    #[error("{option}: '{value}' is not legal; {legal}")]
    Option {
        /// Which one.
        option: &'static str,
        /// As given.
        value: String,
        /// What is legal.
        legal: &'static str,
    },
    /// The text could not be written.
    #[error("cannot write YAML: {0}")]
    Yaml(#[from] serde_saphyr::ser_error::Error),
}

/// The file for the servers of `plan`; load and faults are none of its business.
///
/// # Errors
/// An option is not legal, or the plan asks for what no engine has.
pub fn render(plan: &Plan, target: Target, options: &Options) -> Result<String, RenderError> {
    if plan.network.is_some() {
        return Err(RenderError::Simulated);
    }
    options.check(plan.topology.masters.len() + plan.topology.replicas.len())?;
    match target {
        Target::Kubernetes => k8s::manifests(plan, options),
        Target::Swarm => swarm::stack(plan, options),
    }
}

impl Options {
    fn check(&self, servers: usize) -> Result<(), RenderError> {
        let refused = |option, value: &str, legal| {
            Err(RenderError::Option { option, value: value.to_owned(), legal })
        };
        if self.image.is_empty() || self.image.contains(char::is_whitespace) {
            return refused("--image", &self.image, "expected REPOSITORY:TAG");
        }
        if let Some(namespace) = self.namespace.as_deref().filter(|name| !is_label(name)) {
            let legal = "expected small letters, digits and hyphens, 63 at most";
            return refused("--namespace", namespace, legal);
        }
        if !is_quantity(&self.storage) {
            let legal = "expected a number and Mi, Gi or Ti, such as 10Gi";
            return refused("--storage", &self.storage, legal);
        }
        if self.port == 0 || usize::from(self.port) + servers - 1 > usize::from(u16::MAX) {
            let legal = "expected a port above 0 with one for each server behind it";
            return refused("--port", &self.port.to_string(), legal);
        }
        Ok(())
    }
}

/// A label of RFC 1123.
fn is_label(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !name.is_empty()
        && name.len() <= 63
        && name.chars().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

fn is_quantity(text: &str) -> bool {
    let number = ["Mi", "Gi", "Ti"].iter().find_map(|unit| text.strip_suffix(unit));
    number.is_some_and(|number| number.parse::<u32>().is_ok_and(|number| number > 0))
}

/// The plan's name, of small letters, digits and hyphens, as the name of a service, which begins
/// with a letter and ends with no hyphen.
fn instance(plan: &Plan) -> String {
    let letter = plan.name.starts_with(|c: char| c.is_ascii_lowercase());
    let named = if letter { plan.name.clone() } else { format!("q-{}", plan.name) };
    let short: String = named.chars().take(NAME_MAX).collect();
    short.trim_end_matches('-').to_owned()
}

/// What every server is started with, whatever its role.
fn serve(plan: &Plan, data: &str) -> Vec<String> {
    let quorum = &plan.topology.write_quorum;
    let words = format!(
        "serve --data {data} --http 0.0.0.0:{HTTP} --peer 0.0.0.0:{PEER} --cluster-name {} \
         --write-quorum {quorum}",
        instance(plan)
    );
    words.split(' ').map(str::to_owned).collect()
}

/// Behind that, where MASTERs of these names and addresses found the cluster.
fn founds(masters: &[(String, String)], advertise: &str) -> Vec<String> {
    let names: Vec<&str> = masters.iter().map(|(name, _)| name.as_str()).collect();
    let mut words: Vec<String> =
        ["--masters", &names.join(","), "--advertise", advertise].map(str::to_owned).to_vec();
    for (name, at) in masters {
        words.extend(["--dial".to_owned(), format!("{name}={at}")]);
    }
    words
}

/// Behind that, where a REPLICA joins them.
fn joins(masters: &[(String, String)], advertise: &str) -> Vec<String> {
    let seeds: Vec<&str> = masters.iter().map(|(_, at)| at.as_str()).collect();
    ["--role", "replica", "--join", &seeds.join(","), "--advertise", advertise]
        .map(str::to_owned)
        .to_vec()
}

fn yaml(document: &Value) -> Result<String, RenderError> {
    Ok(serde_saphyr::to_string(document)?)
}
