//! In what bodies are written and read: JSON, or by feature MessagePack or YAML.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// How bodies are written; see [`AppBuilder::format`](super::AppBuilder::format). All that this program knows are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
#[doc(alias = "task_serializer")]
pub enum Format {
    /// JSON.
    #[default]
    Json,
    /// MessagePack.
    #[cfg(feature = "msgpack")]
    Msgpack,
    /// YAML.
    #[cfg(feature = "yaml")]
    Yaml,
}

impl Format {
    pub(super) const ALL: &[Format] = &[
        Format::Json,
        #[cfg(feature = "msgpack")]
        Format::Msgpack,
        #[cfg(feature = "yaml")]
        Format::Yaml,
    ];

    /// Content type and encoding, as kombu names them.
    pub(crate) fn content(self) -> (&'static str, &'static str) {
        match self {
            Format::Json => ("application/json", "utf-8"),
            #[cfg(feature = "msgpack")]
            Format::Msgpack => ("application/x-msgpack", "binary"),
            #[cfg(feature = "yaml")]
            Format::Yaml => ("application/x-yaml", "utf-8"),
        }
    }

    pub(super) fn of(kind: &str, encoding: &str) -> Option<Self> {
        let named = |format: &&Format| {
            let content = format.content();
            kind == content.0 && encoding.eq_ignore_ascii_case(content.1)
        };
        Format::ALL.iter().find(named).copied()
    }

    pub(super) fn known() -> String {
        let names: Vec<String> = Format::ALL
            .iter()
            .map(|format| {
                let (kind, encoding) = format.content();
                format!("{kind} in {encoding}")
            })
            .collect();
        names.join(" or ")
    }

    /// What is written of values always encodes.
    pub(super) fn write(self, parts: &impl Serialize) -> Vec<u8> {
        match self {
            Format::Json => serde_json::to_vec(parts).unwrap_or_default(),
            #[cfg(feature = "msgpack")]
            Format::Msgpack => rmp_serde::to_vec_named(parts).unwrap_or_default(),
            #[cfg(feature = "yaml")]
            Format::Yaml => serde_saphyr::to_string(parts).unwrap_or_default().into_bytes(),
        }
    }

    pub(super) fn read<T: DeserializeOwned>(self, body: &[u8]) -> Result<T, String> {
        match self {
            Format::Json => serde_json::from_slice(body).map_err(|error| error.to_string()),
            #[cfg(feature = "msgpack")]
            Format::Msgpack => {
                let mut from = rmp_serde::Deserializer::from_read_ref(body);
                // As deep as JSON may be.
                from.set_max_depth(128);
                T::deserialize(&mut from).map_err(|error| error.to_string())
            }
            #[cfg(feature = "yaml")]
            Format::Yaml => serde_saphyr::from_slice(body).map_err(|error| error.to_string()),
        }
    }
}
