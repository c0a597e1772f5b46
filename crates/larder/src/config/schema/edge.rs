//! `[edge]`: the caches in front of the application.

use super::{Field, TIMEOUT, choice};
use crate::config::kind::Kind;

const CACHES: &[&str] = &["varnish", "nginx", "souin", "http"];

pub(super) const FIELDS: &[Field] = &[
    Field::new(
        "edge.hosts",
        Kind::List,
        "The site's host names. Only URLs of these hosts may be purged; empty: none.",
    )
    .example("example.com,www.example.com"),
    Field::new(
        "edge.providers.*.driver",
        choice(&[
            "varnish",
            "nginx",
            "souin",
            "http",
            "cloudflare",
            "fastly",
            "cloudfront",
            "akamai",
            "bunny",
        ]),
        "What kind of edge this is.",
    )
    .derived("the provider's name")
    .example("cloudflare"),
    Field::new(
        "edge.providers.*.servers",
        Kind::List,
        "The URLs of all nodes to purge.",
    )
    .example("http://10.0.0.1:6081,http://10.0.0.2:6081")
    .only(CACHES),
    Field::new(
        "edge.providers.*.url",
        Kind::Url,
        "The address of the provider's API, where it is not the usual one.",
    )
    .example("http://127.0.0.1:9999")
    .only(&["cloudflare", "fastly", "cloudfront", "akamai", "bunny"]),
    Field::new(
        "edge.providers.*.api_token",
        Kind::Secret,
        "The token of the provider's API.",
    )
    .example("${CDN_TOKEN}")
    .only(&["cloudflare", "fastly", "bunny", "souin", "http"]),
    Field::new(
        "edge.providers.*.zone_id",
        Kind::Text,
        "The zone to purge: Cloudflare's zone, Bunny's pull zone.",
    )
    .example("023e105f4ecef8ad9ca31a8372d0c353")
    .only(&["cloudflare", "bunny"]),
    Field::new(
        "edge.providers.*.service_id",
        Kind::Text,
        "The service to purge.",
    )
    .example("SU1Z0isxPaozGVKXdv0eY")
    .only(&["fastly"]),
    Field::new(
        "edge.providers.*.distribution_id",
        Kind::Text,
        "The distribution to purge.",
    )
    .example("EDFDVBD6EXAMPLE")
    .only(&["cloudfront"]),
    Field::new(
        "edge.providers.*.access_key",
        Kind::Text,
        "The key id, or EdgeGrid client token, that signs requests.",
    )
    .example("AKIDEXAMPLE")
    .only(&["cloudfront", "akamai"]),
    Field::new(
        "edge.providers.*.secret_key",
        Kind::Secret,
        "The secret that signs requests.",
    )
    .example("${CDN_SECRET_KEY}")
    .only(&["cloudfront", "akamai"]),
    Field::new(
        "edge.providers.*.access_token",
        Kind::Secret,
        "The EdgeGrid access token.",
    )
    .example("${AKAMAI_ACCESS_TOKEN}")
    .only(&["akamai"]),
    Field::new(
        "edge.providers.*.tag_header",
        Kind::Text,
        "The response header that carries the tags, where it is not the provider's usual one.",
    )
    .example("Surrogate-Key"),
    Field::new(
        "edge.providers.*.tag_prefix",
        Kind::Text,
        "Put before each tag, so that applications that share an edge do not purge each other.",
    )
    .or(""),
    Field::new(
        "edge.providers.*.soft",
        Kind::Bool,
        "Marks responses as stale instead of removing them, where the provider can.",
    )
    .or("false"),
    Field::new(
        "edge.providers.*.timeout",
        TIMEOUT,
        "How long one purge request may take.",
    )
    .or("5s"),
];
