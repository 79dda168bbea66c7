package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

const (
	// patience bounds every wait for something that takes no time.
	patience = time.Minute
	// interval is the pause between two looks at a condition.
	interval = 50 * time.Millisecond
	// longest is how long a write may take: the API server itself gives up
	// after 34 s.
	longest = time.Minute
)

// probe is a write that somebody makes at the first API server.
type probe struct {
	// name heads its column.
	name string
	// user makes it, on the object at the path.
	user, path string
	// body is the patch that writes the time.
	body func(now string) string

	client *http.Client
	host   string
}

// probes are in the order of the table. What they write is what they would in a
// cluster, or an annotation where that does not matter; an API server's own
// writes of the first and the third come from inside it.
var probes = []probe{
	{name: "`kube-system/extension-apiserver-authentication`", user: apiServer, path: "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication", body: annotate},
	{name: "a node's Lease", user: "system:node:" + nodeName, path: "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/" + nodeName, body: renew},
	{name: "a ClusterRole", user: apiServer, path: "/apis/rbac.authorization.k8s.io/v1/clusterroles/replay", body: annotate},
	{name: "a tenant's ConfigMap", user: "tenant", path: "/api/v1/namespaces/" + tenantNamespace + "/configmaps/replay", body: annotate},
}

func annotate(now string) string {
	return fmt.Sprintf(`{"metadata":{"annotations":{"fusegate.dev/replay":%q}}}`, now)
}

func renew(now string) string {
	return fmt.Sprintf(`{"spec":{"holderIdentity":%q,"renewTime":%q}}`, nodeName, now)
}

// write makes the write, as a merge patch that always changes something.
func (p probe) write(ctx context.Context) error { return p.patch(ctx, "") }

// rehearse makes the write without storing anything.
func (p probe) rehearse(ctx context.Context) error { return p.patch(ctx, "?dryRun=All") }

func (p probe) patch(ctx context.Context, query string) error {
	body := []byte(p.body(time.Now().UTC().Format("2006-01-02T15:04:05.000000Z")))
	req, err := http.NewRequestWithContext(ctx, http.MethodPatch, p.host+p.path+query, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/merge-patch+json")
	resp, err := p.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, text)
	}
	return err
}

// eventually repeats try until it succeeds. It gives up after patience, or when
// the context is done.
func eventually(ctx context.Context, try func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	var last error
	for {
		err := try(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil {
			last = err // and not what the end of the wait makes of it
		}
		select {
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), last)
		case <-tick.C:
		}
	}
}
