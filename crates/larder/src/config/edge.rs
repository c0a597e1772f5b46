//! `[edge]` as types.

use std::collections::BTreeMap;
use std::time::Duration;

use super::secret::Secret;
use super::typed::Table;

/// `[edge]`: the caches in front of the application.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct EdgeConfig {
    /// The host names whose URLs may be purged.
    pub hosts: Vec<String>,
    /// `[edge.providers.*]` by name.
    pub providers: BTreeMap<String, ProviderConfig>,
}

/// One edge.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProviderConfig {
    /// `varnish`, `nginx`, `souin`, `http`, `cloudflare`, `fastly`, `cloudfront`, `akamai` or `bunny`.
    pub driver: String,
    /// The nodes of one's own edge, as URLs.
    pub servers: Vec<Secret>,
    /// The address of a provider's API, where it is not the usual one.
    pub url: Option<Secret>,
    /// The token of the API.
    pub api_token: Option<Secret>,
    /// Cloudflare's zone, Bunny's pull zone.
    pub zone_id: Option<String>,
    /// Fastly's service.
    pub service_id: Option<String>,
    /// CloudFront's distribution.
    pub distribution_id: Option<String>,
    /// The id of the signing key (CloudFront), the client token (Akamai).
    pub access_key: Option<String>,
    /// The signing secret (CloudFront, Akamai).
    pub secret_key: Option<Secret>,
    /// Akamai's access token.
    pub access_token: Option<Secret>,
    /// The response header of the tags, where it is not the provider's usual one.
    pub tag_header: Option<String>,
    /// Put before each tag. Default empty.
    pub tag_prefix: String,
    /// Whether responses become stale instead of going away. Default `false`.
    pub soft: bool,
    /// How long one purge request may take. Default 5 s.
    pub timeout: Duration,
}

impl EdgeConfig {
    pub(super) fn read(table: &Table<'_>) -> Self {
        let providers = table.table("providers");
        Self {
            hosts: table.list("hosts"),
            providers: providers
                .names()
                .into_iter()
                .map(|name| {
                    let provider = ProviderConfig::read(&providers.table(&name));
                    (name, provider)
                })
                .collect(),
        }
    }
}

impl ProviderConfig {
    fn read(table: &Table<'_>) -> Self {
        Self {
            driver: table.text("driver").unwrap_or_default(),
            servers: table.list("servers").into_iter().map(Secret::new).collect(),
            url: table.secret("url"),
            api_token: table.secret("api_token"),
            zone_id: table.text("zone_id"),
            service_id: table.text("service_id"),
            distribution_id: table.text("distribution_id"),
            access_key: table.text("access_key"),
            secret_key: table.secret("secret_key"),
            access_token: table.secret("access_token"),
            tag_header: table.text("tag_header"),
            tag_prefix: table.text("tag_prefix").unwrap_or_default(),
            soft: table.flag("soft"),
            timeout: table.duration("timeout"),
        }
    }
}
