# A backup of Vault, Consul and Nomad, every hour. No secret is in this file or in Nomad: the job's workload identity logs in to
# Vault (deploy/vault/setup-jwt-nomad.sh), which makes a short-lived token for Consul and knows the store's keys; for Nomad
# itself the identity is enough (deploy/policies/nomad/backup.hcl). All that was made is given back at the end.
#
#   nomad job run -var repository=r2://ACCOUNT/BUCKET deploy/nomad/backup.nomad.hcl
#   nomad job periodic force hah-vault-backup

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

job "hah-vault-backup" {
  type = "batch"

  periodic {
    crons            = ["17 * * * *"]
    time_zone        = "UTC"
    prohibit_overlap = true
  }

  group "backup" {
    # A run that fails is tried again, twice; what is stored already is not stored again.
    restart {
      attempts = 2
      interval = "30m"
      delay    = "1m"
      mode     = "fail"
    }

    reschedule {
      attempts  = 1
      interval  = "1h"
      unlimited = false
    }

    # Sealed packs that the store cannot take fast enough wait here.
    ephemeral_disk {
      size = 1024
    }

    task "backup" {
      driver       = "docker"
      user         = "65532:65532"
      kill_timeout = "30s"

      config {
        image           = var.image
        args            = ["backup", "vault", "consul", "nomad"]
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

      env {
        HAH_VAULT_REPO         = var.repository
        HAH_VAULT_AUTH         = "jwt"
        HAH_VAULT_AUTH_ROLE    = "hah-vault-backup"
        HAH_VAULT_KV           = "secret/hah-vault"
        HAH_VAULT_CONSUL_CREDS = "consul/creds/hah-vault"
        VAULT_ADDR             = var.vault_addr
        CONSUL_HTTP_ADDR       = "http://${attr.unique.network.ip-address}:8500"
        NOMAD_ADDR             = "unix://${NOMAD_SECRETS_DIR}/api.sock"
        TMPDIR                 = "${NOMAD_ALLOC_DIR}/tmp"
      }

      resources {
        cpu    = 500
        memory = 256
      }
    }
  }
}
