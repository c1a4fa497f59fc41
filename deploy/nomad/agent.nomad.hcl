# The agent as a service: backups of Vault, Consul and Nomad and a daily verification on schedules, one process. As with
# backup.nomad.hcl no secret is in this file or in Nomad: each run logs in to Vault with the job's workload identity and gives
# back what it was given. The control API is a unix socket in the allocation: no port, no token.
#
#   NAME=hah-vault-agent deploy/vault/setup-jwt-nomad.sh
#   nomad acl policy apply -namespace default -job hah-vault-agent hah-vault-agent deploy/policies/nomad/backup.hcl
#   nomad job run -var repository=r2://ACCOUNT/BUCKET deploy/nomad/agent.nomad.hcl
#   nomad alloc exec -job -task agent hah-vault-agent /hah-vault status

variable "repository" {
  type        = string
  description = "Where the backups go: r2://ACCOUNT/BUCKET/PREFIX or s3://BUCKET/PREFIX"
}

variable "vault_addr" {
  type        = string
  description = "Any Vault server; the leader is found from there"
  default     = "https://vault.service.consul:8200"
}

variable "image" {
  type        = string
  description = "deploy/container builds it; with its digest, name@sha256:…, it cannot change"
  default     = "ghcr.io/hah-vault/hah-vault:0.1.0"
}

variable "metrics_push" {
  type        = string
  description = "A Pushgateway for the figures of each run; empty for none"
  default     = ""
}

job "hah-vault-agent" {
  type = "service"

  group "agent" {
    # No backup needs a lock: should two agents run for a moment, nothing is harmed.
    count = 1

    restart {
      attempts = 5
      interval = "10m"
      delay    = "30s"
      mode     = "delay"
    }

    # What ran when is kept here; and sealed packs that the store cannot take fast enough wait here.
    ephemeral_disk {
      size    = 1024
      sticky  = true
      migrate = true
    }

    task "agent" {
      driver = "docker"
      user   = "65532:65532"
      # Runs may finish within the agent's stop_timeout, 20 s, and are stopped within another 30 s.
      kill_timeout = "60s"
      kill_signal  = "SIGTERM"

      config {
        image           = var.image
        args            = ["agent"]
        readonly_rootfs = true
        cap_drop        = ["all"]
        security_opt    = ["no-new-privileges"]
        pids_limit      = 128
      }

      # For Nomad: its token, and the task API that takes it.
      identity {
        env         = true
        change_mode = "noop"
      }

      # For Vault: read from ${NOMAD_SECRETS_DIR}/nomad_vault.jwt at each login.
      identity {
        name        = "vault"
        aud         = ["vault.io"]
        file        = true
        ttl         = "1h"
        change_mode = "noop"
      }

      # A change of the schedules takes a reload, not a restart. gc is not here: it takes keys of the store that may delete,
      # and belongs on another host.
      template {
        destination   = "local/config.hcl"
        change_mode   = "signal"
        change_signal = "SIGHUP"
        data          = <<-END
          vault {
          }
          consul {
          }
          nomad {
          }
          agent {
            listen       = "unix:///alloc/tmp/agent.sock"
            state_folder = "/alloc/data/hah-vault"
            schedule {
              backup            = "17 * * * *"
              verify            = "30 4 * * *"
              read_data_percent = 5
            }
          }
        END
      }

      env {
        HAH_VAULT_CONFIG       = "/local/config.hcl"
        HAH_VAULT_AGENT        = "unix:///alloc/tmp/agent.sock"
        HAH_VAULT_METRICS_PUSH = var.metrics_push
        HAH_VAULT_REPO         = var.repository
        HAH_VAULT_AUTH         = "jwt"
        HAH_VAULT_AUTH_ROLE    = "hah-vault-agent"
        HAH_VAULT_KV           = "secret/hah-vault"
        HAH_VAULT_CONSUL_CREDS = "consul/creds/hah-vault"
        VAULT_ADDR             = var.vault_addr
        CONSUL_HTTP_ADDR       = "http://${attr.unique.network.ip-address}:8500"
        NOMAD_ADDR             = "unix://${NOMAD_SECRETS_DIR}/api.sock"
        TMPDIR                 = "${NOMAD_ALLOC_DIR}/tmp"
        # Which packs were read when, and which snapshots were seen.
        XDG_STATE_HOME = "${NOMAD_ALLOC_DIR}/data"
      }

      resources {
        cpu    = 500
        memory = 256
      }
    }
  }
}
