package backend

import "github.com/OpenArchive/save-dweb-go/vault"

// VaultTable keeps the backend's keys and caches in a vault, which it owns from then on.
func VaultTable(v *vault.Vault) Table { return vaultTable{v.Table("backend"), v} }

type vaultTable struct {
	*vault.Table
	vault *vault.Vault
}

func (t vaultTable) Close() error { return t.vault.Close() }
