//! How a store is opened: settings that are not part of its URL.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use zeroize::Zeroizing;

/// Settings of a store. What is `None` comes from the usual `AWS_*` variables and files, unless `ignore_environment` is set.
#[derive(Debug, Clone, Default)]
pub struct StoreOptions {
    /// The S3 endpoint, `https://host`; for R2 it follows from the account.
    pub endpoint: Option<String>,
    /// The region to sign for.
    pub region: Option<String>,
    /// The profile in the shared AWS files.
    pub profile: Option<String>,
    /// Keys given outright.
    pub credentials: Option<Credentials>,
    /// The bucket as a host name instead of the first part of the path. By default only for AWS itself.
    pub virtual_host_style: Option<bool>,
    /// A PEM file of certificate authorities to trust instead of the system's.
    pub ca_bundle: Option<PathBuf>,
    /// Neither variables nor files are looked at: for tests, and for keys that come from Vault.
    pub ignore_environment: bool,
    /// Time-outs and retries.
    pub patience: Patience,
}

/// S3 keys.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The access key's id, which is not secret.
    pub access_key_id: String,
    /// The secret access key.
    pub secret_access_key: Secret,
    /// The token of temporary keys.
    pub session_token: Option<Secret>,
}

/// A secret text: wiped when dropped, and never printed.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes a secret in.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The secret itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// How long to wait and how often to try. Every wait has an end: attempts and the time of each are bounded.
#[derive(Debug, Clone)]
pub struct Patience {
    /// For the connection and its TLS handshake.
    pub connect: Duration,
    /// For one request of a few bytes.
    pub request: Duration,
    /// Between two pieces of an answer.
    pub idle: Duration,
    /// A request with a body may take longer than `request` by the time that the body takes at this speed.
    pub bytes_per_second_min: u64,
    /// Attempts in all.
    pub attempts_max: u32,
    /// Before the second attempt; doubled for each one after it.
    pub retry_delay_min: Duration,
    /// The longest wait between two attempts, also when the store asks for more.
    pub retry_delay_max: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            request: Duration::from_secs(30),
            idle: Duration::from_secs(30),
            // Half a megabit per second, shared by nobody: a pack of 8 MiB has 158 s.
            bytes_per_second_min: 64 * 1024,
            attempts_max: 6,
            retry_delay_min: Duration::from_millis(500),
            retry_delay_max: Duration::from_secs(20),
        }
    }
}

impl Patience {
    /// The time-out of one attempt that moves this many bytes.
    pub(super) fn attempt(&self, len_bytes: u64) -> Duration {
        self.request + Duration::from_secs(len_bytes / self.bytes_per_second_min.max(1))
    }

    /// The wait before the attempt after `failures` failed ones: exponential, and half of it random, so that many hosts that
    /// failed together do not come back together.
    pub(super) fn retry_delay(&self, failures: u32, asked: Option<Duration>, random: f64) -> Duration {
        let doubled = self.retry_delay_min.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1)));
        let delay = doubled.min(self.retry_delay_max).mul_f64(0.5 + random / 2.0);
        delay.max(asked.unwrap_or_default()).min(self.retry_delay_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_put_gets_more_time() {
        let patience = Patience::default();
        assert_eq!(patience.attempt(0), Duration::from_secs(30));
        assert_eq!(patience.attempt(8 << 20), Duration::from_secs(158));
    }

    #[test]
    fn retry_delays_double_up_to_the_limit() {
        let patience = Patience::default();
        let delay = |failures| patience.retry_delay(failures, None, 1.0).as_millis();
        assert_eq!([delay(1), delay(2), delay(3)], [500, 1000, 2000]);
        assert_eq!(delay(60), 20_000);
        assert_eq!(patience.retry_delay(1, None, 0.0).as_millis(), 250);
        let asked = Some(Duration::from_secs(3));
        assert_eq!(patience.retry_delay(1, asked, 0.0).as_secs(), 3);
        let forever = Some(Duration::MAX);
        assert_eq!(patience.retry_delay(1, forever, 0.0).as_secs(), 20);
    }

    #[test]
    fn secrets_are_not_printed() {
        let options = StoreOptions {
            credentials: Some(Credentials {
                access_key_id: "id".into(),
                secret_access_key: Secret::new("hunter2"),
                session_token: Some(Secret::new("hunter3")),
            }),
            ..StoreOptions::default()
        };
        let printed = format!("{options:?}");
        assert!(printed.contains("[redacted]") && !printed.contains("hunter"));
    }
}
