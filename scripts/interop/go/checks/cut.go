package checks

import (
	"context"
	"errors"
	"net"
	"sync"
)

// Network dials for one group member, and can be cut: then no byte leaves that member any more, as
// when its process was killed. The broker sees closed connections and no LeaveGroup.
type Network struct {
	mutex       sync.Mutex
	cut         bool
	connections []net.Conn
}

// DialContext connects, unless the network is cut.
func (network *Network) DialContext(
	ctx context.Context, protocol, address string,
) (net.Conn, error) {
	connection, err := (&net.Dialer{}).DialContext(ctx, protocol, address)
	if err != nil {
		return nil, err
	}
	network.mutex.Lock()
	defer network.mutex.Unlock()
	if network.cut {
		connection.Close()
		return nil, errors.New("this member has crashed")
	}
	network.connections = append(network.connections, connection)
	return connection, nil
}

// Dial is DialContext for libraries that dial without a context.
func (network *Network) Dial(protocol, address string) (net.Conn, error) {
	return network.DialContext(context.Background(), protocol, address)
}

// Cut closes every connection and refuses new ones.
func (network *Network) Cut() {
	network.mutex.Lock()
	defer network.mutex.Unlock()
	network.cut = true
	for _, connection := range network.connections {
		connection.Close()
	}
}
