//! The canonical text: one order of keys, two blanks a level, a line's end last, so that equal
//! configurations are equal bytes. May not decide what is in it.

use alloc::vec::Vec;

use serde::Serialize;
use serde::ser::{SerializeMap, SerializeSeq, Serializer};

use super::parse::CHAIN;
use super::{ClusterConfig, DistributedConfig, NewNodeStrategy, Overridable, Quorum, ServerList};

/// Why a configuration cannot become text.
#[derive(Debug, thiserror::Error)]
#[error("the distributed configuration cannot be written: {0}")]
pub struct WriteError(#[from] serde_json::Error);

impl DistributedConfig {
    /// The canonical text. [`DistributedConfig::parse`] reads it as an equal configuration.
    ///
    /// # Errors
    /// None with today's fields; the serializer's signature has one.
    pub fn write(&self) -> Result<Vec<u8>, WriteError> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        Ok(text)
    }
}

impl Serialize for DistributedConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("version", &self.version)?;
        map.serialize_entry("autoDeploy", &self.auto_deploy)?;
        self.overridable.entries(&mut map)?;
        map.serialize_entry("newNodeStrategy", &self.new_node_strategy)?;
        if !self.servers.is_empty() {
            map.serialize_entry("servers", &self.servers)?;
        }
        if !self.data_centers.is_empty() {
            map.serialize_entry("dataCenters", &self.data_centers)?;
        }
        if let Some(chain) = &self.chain {
            map.serialize_entry(CHAIN, chain)?;
        }
        map.serialize_entry("clusters", &self.clusters)?;
        map.end()
    }
}

impl Overridable {
    fn entries<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        if let Some(quorum) = self.read_quorum {
            map.serialize_entry("readQuorum", &quorum)?;
        }
        if let Some(quorum) = self.write_quorum {
            map.serialize_entry("writeQuorum", &quorum)?;
        }
        if let Some(mode) = self.execution_mode {
            map.serialize_entry("executionMode", mode.name())?;
        }
        if let Some(waits) = self.read_your_writes {
            map.serialize_entry("readYourWrites", &waits)?;
        }
        Ok(())
    }
}

impl Serialize for ClusterConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if !self.servers.is_empty() {
            map.serialize_entry("servers", &self.servers)?;
        }
        if let Some(owner) = &self.owner {
            map.serialize_entry("owner", owner)?;
        }
        self.overridable.entries(&mut map)?;
        map.end()
    }
}

impl Serialize for ServerList {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        for entry in self.entries() {
            list.serialize_element(entry)?;
        }
        list.end()
    }
}

impl Serialize for Quorum {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Count(n) => serializer.serialize_u32(*n),
            Self::Majority | Self::All | Self::LocalDataCenter => serializer.collect_str(self),
        }
    }
}

impl Serialize for NewNodeStrategy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}
