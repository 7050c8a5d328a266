//! What Toxiproxy's own API can ask: proxies and their toxics, one by one or in bulk.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::commit::Change;
use super::link::{Link, LinkState};
use super::{Control, Registry};
use crate::model::address::{check_upstream, resolve_listen};
use crate::model::{Refusal, Toxic, check_name};
use crate::path::Port;

/// A proxy as the original shows it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ProxyView {
    name: String,
    listen: String,
    upstream: String,
    enabled: bool,
    toxics: Vec<Toxic>,
}

/// A proxy as a request writes it; what is absent or null keeps its default or present value.
/// Fields unknown to the original are passed over, as the original does.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ProxyRequest {
    name: Option<String>,
    listen: Option<String>,
    upstream: Option<String>,
    enabled: Option<bool>,
}

impl ProxyRequest {
    /// The name and upstream, checked; `place` tells which entry of a list is meant.
    fn required(&self, place: &str) -> Result<(&str, &str), Refusal> {
        let field = |name: &str, value: &Option<String>| match value.as_deref() {
            None | Some("") => Err(Refusal::MissingField(format!("{name}{place}"))),
            Some(_) => Ok(()),
        };
        field("name", &self.name)?;
        field("upstream", &self.upstream)?;
        let name = self.name.as_deref().unwrap_or_default();
        let upstream = self.upstream.as_deref().unwrap_or_default();
        check_name("name", name)?;
        check_upstream(upstream)?;
        Ok((name, upstream))
    }

    fn listen(&self) -> &str {
        self.listen.as_deref().unwrap_or_default()
    }
}

fn view(name: &str, link: &Link) -> ProxyView {
    ProxyView {
        name: name.to_owned(),
        listen: link.port.address().to_string(),
        upstream: link.state.upstream.clone(),
        enabled: link.state.enabled,
        toxics: link.state.listed_toxics(),
    }
}

fn reserve(address: SocketAddr) -> Result<Port, Refusal> {
    let listen = |source| Refusal::Listen { address: address.to_string(), source };
    Port::reserve(address).map_err(listen)
}

impl Registry {
    fn view(&self, name: &str) -> Result<ProxyView, Refusal> {
        Ok(view(name, self.link(name)?))
    }
}

impl Control {
    /// Every proxy by name.
    pub(crate) async fn proxies(&self) -> BTreeMap<String, ProxyView> {
        let registry = self.registry.lock().await;
        registry.links.iter().map(|(name, link)| (name.clone(), view(name, link))).collect()
    }

    /// One proxy.
    pub(crate) async fn proxy(&self, name: &str) -> Result<ProxyView, Refusal> {
        self.registry.lock().await.view(name)
    }

    /// Creates a proxy.
    pub(crate) async fn create(&self, request: ProxyRequest) -> Result<ProxyView, Refusal> {
        let (name, upstream) = request.required("")?;
        let address = resolve_listen(request.listen()).await?;
        let mut registry = self.registry.lock().await;
        if registry.links.contains_key(name) {
            return Err(Refusal::ProxyAlreadyExists);
        }
        let state = LinkState::new(upstream.to_owned(), request.enabled.unwrap_or(true));
        let change = Change::place(name, state, reserve(address)?);
        self.commit(&mut registry, vec![change]).await?;
        registry.view(name)
    }

    /// Changes where a proxy listens, dials, or whether it is enabled.
    pub(crate) async fn update(
        &self,
        name: &str,
        request: ProxyRequest,
    ) -> Result<ProxyView, Refusal> {
        let listen = match &request.listen {
            Some(listen) => Some(resolve_listen(listen).await?),
            None => None,
        };
        let mut registry = self.registry.lock().await;
        let link = registry.link(name)?;
        let mut state = link.state.clone();
        if let Some(upstream) = &request.upstream {
            check_upstream(upstream)?;
            state.upstream.clone_from(upstream);
        }
        state.enabled = request.enabled.unwrap_or(state.enabled);
        let change = match listen.filter(|address| *address != link.port.address()) {
            Some(address) => Change::place(name, state, reserve(address)?),
            None => Change::update(name, state),
        };
        self.commit(&mut registry, vec![change]).await?;
        registry.view(name)
    }

    /// Deletes a proxy and closes its connections.
    pub(crate) async fn delete(&self, name: &str) -> Result<(), Refusal> {
        let mut registry = self.registry.lock().await;
        registry.link(name)?;
        self.commit(&mut registry, vec![Change::remove(name)]).await?;
        Ok(())
    }

    /// Creates the proxies of a list, or replaces those whose listen or upstream differs; all of
    /// them or, when one cannot be had, none.
    pub(crate) async fn populate(
        &self,
        requests: Vec<ProxyRequest>,
    ) -> Result<Vec<ProxyView>, Refusal> {
        let mut names = BTreeSet::new();
        let mut addresses = Vec::new();
        for (index, request) in requests.iter().enumerate() {
            let (name, _) = request.required(&format!(" at proxy {}", index + 1))?;
            if !names.insert(name) {
                return Err(Refusal::Invalid(format!("proxy {name:?} is listed twice")));
            }
            addresses.push(resolve_listen(request.listen()).await?);
        }
        let mut registry = self.registry.lock().await;
        let mut changes = Vec::new();
        for (request, address) in requests.iter().zip(addresses) {
            let (name, upstream) = request.required("")?;
            let state = LinkState::new(upstream.to_owned(), request.enabled.unwrap_or(true));
            match registry.links.get(name) {
                Some(link) if link.port.address() == address => {
                    if link.state.upstream != upstream {
                        changes.push(Change::update(name, state));
                    }
                }
                _ => changes.push(Change::place(name, state, reserve(address)?)),
            }
        }
        self.commit(&mut registry, changes).await?;
        requests
            .iter()
            .map(|request| registry.view(request.name.as_deref().unwrap_or_default()))
            .collect()
    }

    /// Enables every proxy and takes every toxic, cut and delay off, in one step.
    pub(crate) async fn reset(&self) -> Result<(), Refusal> {
        let mut registry = self.registry.lock().await;
        self.heal_all(&mut registry, true).await?;
        Ok(())
    }

    /// The toxics of a proxy.
    pub(crate) async fn toxics(&self, name: &str) -> Result<Vec<Toxic>, Refusal> {
        Ok(self.registry.lock().await.link(name)?.state.listed_toxics())
    }

    /// One toxic of a proxy.
    pub(crate) async fn toxic(&self, name: &str, toxic: &str) -> Result<Toxic, Refusal> {
        let registry = self.registry.lock().await;
        let mut state = registry.link(name)?.state.clone();
        Ok(state.toxic_mut(toxic)?.toxic.clone())
    }

    /// Adds a toxic.
    pub(crate) async fn add_toxic(&self, name: &str, value: Value) -> Result<Toxic, Refusal> {
        let mut registry = self.registry.lock().await;
        let mut state = registry.link(name)?.state.clone();
        let toxic = Toxic::parse(value)?;
        state.add_toxic(toxic.clone(), registry.next_id(), false)?;
        self.commit(&mut registry, vec![Change::update(name, state)]).await?;
        Ok(toxic)
    }

    /// Changes a toxic's attributes or toxicity.
    pub(crate) async fn update_toxic(
        &self,
        name: &str,
        toxic: &str,
        value: Value,
    ) -> Result<Toxic, Refusal> {
        let mut registry = self.registry.lock().await;
        let mut state = registry.link(name)?.state.clone();
        let placed = state.toxic_mut(toxic)?;
        placed.toxic = placed.toxic.updated(value)?;
        placed.revision += 1;
        let updated = placed.toxic.clone();
        self.commit(&mut registry, vec![Change::update(name, state)]).await?;
        Ok(updated)
    }

    /// Removes a toxic.
    pub(crate) async fn remove_toxic(&self, name: &str, toxic: &str) -> Result<(), Refusal> {
        let mut registry = self.registry.lock().await;
        let mut state = registry.link(name)?.state.clone();
        state.remove_toxic(toxic)?;
        self.commit(&mut registry, vec![Change::update(name, state)]).await?;
        Ok(())
    }
}
