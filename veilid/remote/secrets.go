package remote

import (
	"context"
	"fmt"

	"github.com/OpenArchive/save-dweb-go/veilid/jsonapi"
)

// SaveUserSecret keeps a secret under the node's device key.
func (n *Node) SaveUserSecret(ctx context.Context, key string, value []byte) (existed bool, err error) {
	if err := jsonapi.CheckText("key", key); err != nil {
		return false, err
	}
	if err := n.checkSize(value); err != nil {
		return false, err
	}
	err = n.do(ctx, jsonapi.SaveUserSecret{Key: key, Value: value}, &existed)
	return existed, err
}

// LoadUserSecret is a secret, or nil.
func (n *Node) LoadUserSecret(ctx context.Context, key string) ([]byte, error) {
	if err := jsonapi.CheckText("key", key); err != nil {
		return nil, err
	}
	s, err := n.session()
	if err != nil {
		return nil, fmt.Errorf("veilid LoadUserSecret: %w", err)
	}
	return s.requestBytes(ctx, jsonapi.LoadUserSecret{Key: key})
}

// RemoveUserSecret forgets a secret.
func (n *Node) RemoveUserSecret(ctx context.Context, key string) (existed bool, err error) {
	if err := jsonapi.CheckText("key", key); err != nil {
		return false, err
	}
	err = n.do(ctx, jsonapi.RemoveUserSecret{Key: key}, &existed)
	return existed, err
}

// ListUserSecrets are the names of the secrets.
func (n *Node) ListUserSecrets(ctx context.Context) (keys []string, err error) {
	err = n.do(ctx, jsonapi.ListUserSecrets{}, &keys)
	return keys, err
}
