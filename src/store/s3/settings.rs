//! Which endpoint, region and keys are meant: the options first, then `AWS_*` variables, then the shared AWS files.

use std::path::PathBuf;

use super::super::{Credentials, StoreError, StoreOptions, StoreUrl};

/// What `StoreUrl` and `StoreOptions` come to.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) endpoint: String,
    /// The endpoint's host, without a port.
    pub(super) host: String,
    pub(super) bucket: String,
    /// Without slashes at its ends; may be empty.
    pub(super) prefix: String,
    pub(super) region: String,
    pub(super) virtual_host_style: bool,
    /// AWS itself: only there do instances have credentials of their own.
    pub(super) is_aws: bool,
    pub(super) profile: Option<String>,
    pub(super) credentials: Option<Credentials>,
    pub(super) ca_bundle: Option<PathBuf>,
}

/// Where settings that are not given come from.
pub(super) trait Surroundings {
    fn variable(&self, name: &str) -> Option<String>;
    /// The text of the shared AWS config file.
    fn config_file(&self) -> Option<String>;
}

/// The process's own variables and its user's files.
pub(super) struct Process;

impl Surroundings for Process {
    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok().filter(|value| !value.is_empty())
    }

    fn config_file(&self) -> Option<String> {
        let path = match self.variable("AWS_CONFIG_FILE") {
            Some(path) => PathBuf::from(path),
            None => std::env::home_dir()?.join(".aws/config"),
        };
        std::fs::read_to_string(path).ok()
    }
}

/// Nothing: for tests, and when the caller wants no surprises.
pub(super) struct Nothing;

impl Surroundings for Nothing {
    fn variable(&self, _: &str) -> Option<String> {
        None
    }

    fn config_file(&self) -> Option<String> {
        None
    }
}

const HINT_REGION: &str = "set AWS_REGION, or AWS_ENDPOINT_URL for a store that is not AWS";
const HINT_ENDPOINT: &str = "write https://host or http://host:port, without a path or keys";

/// Which server a URL means.
struct Server {
    endpoint: String,
    region: String,
    is_aws: bool,
}

impl Settings {
    pub(super) fn resolve(
        url: &StoreUrl,
        options: &StoreOptions,
        around: &dyn Surroundings,
    ) -> Result<Self, StoreError> {
        let own_profile = || around.variable("AWS_PROFILE");
        let profile = options.profile.clone().or_else(own_profile);
        let (bucket, prefix, server) = match url {
            StoreUrl::R2 { account, bucket, prefix } => (bucket, prefix, Server::r2(account, options)),
            StoreUrl::S3 { bucket, prefix } => {
                let server = Server::s3(options, profile.as_deref(), around)?;
                (bucket, prefix, server)
            }
            StoreUrl::Local { .. } => return Err(invalid(format!("not an S3 URL: {url}"), None)),
        };
        // Over TLS a dot in the bucket would not fit AWS's certificate.
        let virtual_host_style = server.is_aws && !bucket.contains('.');
        let own_bundle = || around.variable("AWS_CA_BUNDLE").map(PathBuf::from);
        Ok(Self {
            host: host_of(&server.endpoint)?,
            endpoint: server.endpoint.trim_end_matches('/').to_owned(),
            bucket: bucket.clone(),
            prefix: prefix.clone(),
            region: server.region,
            virtual_host_style: options.virtual_host_style.unwrap_or(virtual_host_style),
            is_aws: server.is_aws,
            profile,
            credentials: options.credentials.clone(),
            ca_bundle: options.ca_bundle.clone().or_else(own_bundle),
        })
    }
}

impl Server {
    /// The account in the URL decides: `AWS_ENDPOINT_URL` may be meant for other tools. R2 knows no region but one.
    fn r2(account: &str, options: &StoreOptions) -> Self {
        let own = || format!("https://{account}.r2.cloudflarestorage.com");
        Self { endpoint: options.endpoint.clone().unwrap_or_else(own), region: "auto".to_owned(), is_aws: false }
    }

    fn s3(options: &StoreOptions, profile: Option<&str>, around: &dyn Surroundings) -> Result<Self, StoreError> {
        let from_profile = |name: &str| {
            let text = around.config_file()?;
            profile_value(&text, profile.unwrap_or("default"), name)
        };
        let endpoint = options
            .endpoint
            .clone()
            .or_else(|| around.variable("AWS_ENDPOINT_URL_S3"))
            .or_else(|| around.variable("AWS_ENDPOINT_URL"))
            .or_else(|| from_profile("endpoint_url"));
        let region = options
            .region
            .clone()
            .or_else(|| around.variable("AWS_REGION"))
            .or_else(|| around.variable("AWS_DEFAULT_REGION"))
            .or_else(|| from_profile("region"));
        let is_aws = endpoint.is_none();
        let region = match region {
            None if is_aws => return Err(no_region()),
            None => "auto".to_owned(),
            Some(region) => region,
        };
        Ok(Self { endpoint: endpoint.unwrap_or_else(|| aws_endpoint(&region)), region, is_aws })
    }
}

fn aws_endpoint(region: &str) -> String {
    let suffix = if region.starts_with("cn-") { ".cn" } else { "" };
    format!("https://s3.{region}.amazonaws.com{suffix}")
}

fn no_region() -> StoreError {
    invalid("no region is set for AWS S3".to_owned(), Some(HINT_REGION))
}

fn invalid(what: String, hint: Option<&'static str>) -> StoreError {
    StoreError::Invalid { what, hint }
}

/// The host of an endpoint, which has to be a plain one. The text is not repeated where it may hold a key.
fn host_of(endpoint: &str) -> Result<String, StoreError> {
    let not_plain = || invalid("the S3 endpoint is not a plain URL".to_owned(), Some(HINT_ENDPOINT));
    let uri: http::Uri = endpoint.parse().map_err(|_| not_plain())?;
    let is_web = matches!(uri.scheme_str(), Some("http" | "https"));
    let authority = uri.authority().ok_or_else(not_plain)?;
    let is_plain = is_web && uri.path() == "/" && uri.query().is_none() && !authority.as_str().contains('@');
    if !is_plain || authority.host().is_empty() {
        return Err(not_plain());
    }
    Ok(authority.host().to_owned())
}

/// One value of a profile in the shared config file: `[default]` or `[profile name]`, then `key = value` lines.
fn profile_value(text: &str, profile: &str, name: &str) -> Option<String> {
    let mut inside = false;
    for line in text.lines() {
        if let Some(section) = line.trim().strip_prefix('[') {
            let section = section.split(']').next().unwrap_or_default().trim();
            let section = section.strip_prefix("profile ").map_or(section, str::trim);
            inside = section == profile;
        } else if inside
            // Indented lines are settings of one service.
            && !line.starts_with([' ', '\t'])
            && let Some((key, value)) = line.split_once('=')
            && key.trim() == name
        {
            return Some(value.trim().to_owned()).filter(|value| !value.is_empty());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[derive(Default)]
    struct Around {
        variables: HashMap<&'static str, &'static str>,
        config: Option<&'static str>,
    }

    impl Surroundings for Around {
        fn variable(&self, name: &str) -> Option<String> {
            self.variables.get(name).map(ToString::to_string)
        }

        fn config_file(&self) -> Option<String> {
            self.config.map(str::to_owned)
        }
    }

    fn resolve(url: &str, around: &Around) -> Result<Settings, StoreError> {
        let url: StoreUrl = url.parse()?;
        Settings::resolve(&url, &StoreOptions::default(), around)
    }

    fn around<const N: usize>(variables: [(&'static str, &'static str); N]) -> Around {
        Around { variables: HashMap::from(variables), config: None }
    }

    #[test]
    fn r2_follows_from_the_account_alone() {
        let account = "0123456789abcdef0123456789abcdef";
        let other = around([("AWS_ENDPOINT_URL", "https://elsewhere"), ("AWS_REGION", "eu-west-1")]);
        let settings = resolve(&format!("r2://{account}.eu/bucket/p"), &other).expect("settings");
        assert_eq!(settings.endpoint, format!("https://{account}.eu.r2.cloudflarestorage.com"));
        assert_eq!((settings.region.as_str(), settings.virtual_host_style), ("auto", false));
    }

    #[test]
    fn aws_needs_a_region_and_says_so() {
        let error = resolve("s3://bucket", &Around::default()).expect_err("no region");
        assert_eq!(error.hint(), Some(HINT_REGION));
        let settings = resolve("s3://bucket", &around([("AWS_DEFAULT_REGION", "cn-north-1")])).expect("settings");
        assert_eq!(settings.endpoint, "https://s3.cn-north-1.amazonaws.com.cn");
        assert!(settings.virtual_host_style && settings.is_aws);
        let dotted = resolve("s3://my.bucket", &around([("AWS_REGION", "eu-west-1")])).expect("settings");
        assert!(!dotted.virtual_host_style);
    }

    #[test]
    fn an_endpoint_of_its_own_is_path_style_and_needs_no_region() {
        let own = around([("AWS_ENDPOINT_URL", "http://wrong"), ("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9000/")]);
        let settings = resolve("s3://bucket/p", &own).expect("settings");
        assert_eq!(settings.endpoint, "http://127.0.0.1:9000");
        assert_eq!((settings.host.as_str(), settings.region.as_str()), ("127.0.0.1", "auto"));
        assert!(!settings.virtual_host_style && !settings.is_aws);
    }

    #[test]
    fn a_profile_gives_region_and_endpoint() {
        let config = "[default]\nregion = us-east-1\n[profile backup]\nservices =\n  region = no\nregion=eu-west-1\n[profile own]\nendpoint_url = http://own:1\n";
        let with = |profile| Around { variables: HashMap::from([("AWS_PROFILE", profile)]), config: Some(config) };
        assert_eq!(resolve("s3://bucket", &with("backup")).expect("settings").region, "eu-west-1");
        assert_eq!(resolve("s3://bucket", &with("default")).expect("settings").region, "us-east-1");
        assert_eq!(resolve("s3://bucket", &with("own")).expect("settings").host, "own");
        assert!(resolve("s3://bucket", &with("missing")).is_err());
    }

    #[test]
    fn endpoints_that_are_not_plain_are_refused_and_not_repeated() {
        for endpoint in
            ["", "host", "ftp://host", "https://id:hunter2@host", "https://host/path", "https://host/?hunter2"]
        {
            let options = StoreOptions { endpoint: Some(endpoint.into()), ..StoreOptions::default() };
            let url = "s3://bucket".parse().expect("url");
            let error = Settings::resolve(&url, &options, &Nothing).expect_err(endpoint);
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }
}
