package jsonapi

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/OpenArchive/save-dweb-go/veilid"
)

// Attachment is the state of a node's attachment, as an update and inside of [State].
type Attachment struct {
	State               veilid.AttachmentState `json:"state"`
	PublicInternetReady bool                   `json:"public_internet_ready"`
	LocalNetworkReady   bool                   `json:"local_network_ready"`
	Uptime              U64                    `json:"uptime"`          // µs
	AttachedUptime      U64                    `json:"attached_uptime"` // µs; null while detached
	ReliablePeers       U64                    `json:"reliable_peer_count"`
	LivePeers           U64                    `json:"live_peer_count"`
	EstimatedNetwork    U64                    `json:"estimated_network_size"`
}

// Veilid is the attachment in the terms of package veilid.
func (a Attachment) Veilid() veilid.Attachment {
	return veilid.Attachment{
		State: a.State, PublicInternetReady: a.PublicInternetReady, LocalNetworkReady: a.LocalNetworkReady,
		Uptime: a.Uptime.micros(), AttachedUptime: a.AttachedUptime.micros(),
		ReliablePeers: uint64(a.ReliablePeers), LivePeers: uint64(a.LivePeers), EstimatedNetwork: uint64(a.EstimatedNetwork),
	}
}

// Network is the state of a node's network, as an update and inside of [State].
type Network struct {
	Started bool            `json:"started"`
	BPSDown U64             `json:"bps_down"`
	BPSUp   U64             `json:"bps_up"`
	Peers   []struct{}      `json:"peers"`
	NodeIDs []veilid.NodeID `json:"node_ids"`
}

// Veilid is the network in the terms of package veilid.
func (n Network) Veilid() veilid.Network {
	return veilid.Network{
		Started: n.Started, BPSDown: uint64(n.BPSDown), BPSUp: uint64(n.BPSUp), Peers: len(n.Peers), NodeIDs: n.NodeIDs,
	}
}

// message is the common part of AppMessage and AppCall.
type message struct {
	Sender  *veilid.NodeID  `json:"sender"`
	RouteID *veilid.RouteID `json:"route_id"`
	Message Bytes           `json:"message"`
	CallID  U64             `json:"call_id"`
}

func (m message) veilid() veilid.AppMessage {
	v := veilid.AppMessage{Message: m.Message}
	if m.Sender != nil {
		v.Sender = *m.Sender
	}
	if m.RouteID != nil {
		v.Route = *m.RouteID
	}
	return v
}

// ParseUpdate reads an update. It is nil for kinds that package veilid does not know, such as Config.
func ParseUpdate(line []byte) (veilid.Update, error) {
	var h struct {
		Type string `json:"type"`
		Kind string `json:"kind"`
	}
	if err := json.Unmarshal(line, &h); err != nil {
		return nil, fmt.Errorf("parse update: %w", err)
	}
	if h.Type != "Update" {
		return nil, errors.New("parse update: it is none")
	}
	u, err := parseUpdate(h.Kind, line)
	if err != nil {
		return nil, fmt.Errorf("parse %.20s update: %w", h.Kind, err)
	}
	return u, nil
}

func parseUpdate(kind string, line []byte) (veilid.Update, error) {
	switch kind {
	case "AppMessage":
		var m message
		err := json.Unmarshal(line, &m)
		v := m.veilid()
		return &v, err
	case "AppCall":
		var m message
		err := json.Unmarshal(line, &m)
		return &veilid.AppCall{AppMessage: m.veilid(), CallID: uint64(m.CallID)}, err
	case "Attachment":
		var a Attachment
		err := json.Unmarshal(line, &a)
		v := a.Veilid()
		return &v, err
	case "Network":
		var n Network
		err := json.Unmarshal(line, &n)
		v := n.Veilid()
		return &v, err
	case "RouteChange":
		var r struct {
			Dead       []veilid.RouteID `json:"dead_routes"`
			DeadRemote []veilid.RouteID `json:"dead_remote_routes"`
		}
		err := json.Unmarshal(line, &r)
		return &veilid.RouteChange{DeadRoutes: r.Dead, DeadRemoteRoutes: r.DeadRemote}, err
	case "ValueChange":
		var c struct {
			Key     RecordKey  `json:"key"`
			Subkeys Ranges     `json:"subkeys"`
			Count   uint32     `json:"count"`
			Value   *ValueData `json:"value"`
		}
		err := json.Unmarshal(line, &c)
		return &veilid.ValueChange{
			Key: c.Key.RecordKey, Subkeys: veilid.SubkeyRanges(c.Subkeys), Count: c.Count, Value: c.Value.Veilid(),
		}, err
	case "Log":
		var l struct {
			Level   string `json:"log_level"`
			Message string `json:"message"`
		}
		err := json.Unmarshal(line, &l)
		return &veilid.Log{Level: l.Level, Message: l.Message}, err
	case "Shutdown":
		return &veilid.Shutdown{}, nil
	}
	return nil, nil
}
