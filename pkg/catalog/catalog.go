// Package catalog knows what an API server serves, for all of a process that has to
// look again and again: as long as nothing has changed, a look is two requests that
// are answered without a body (RFC 9110, If-None-Match), and returns the very values
// that the look before did. It stands beside the pipeline, below what follows
// kinds that come and go.
//
// The caches of client-go promise less: that in memory is right until somebody says
// that it is not, and then everything is asked for again; that on disk is right for
// a while. Here every look is as of now, and a group that cannot be discovered is an
// error of that group (discovery.ErrGroupDiscoveryFailed) each time.
package catalog

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
)

// askTimeout bounds the question whether something has changed.
const askTimeout = 10 * time.Second

// Catalog is a discovery client that remembers. What it returns must not be
// changed. It is safe for concurrent use; who asks meanwhile waits for the
// answer.
type Catalog struct {
	discovery.ServerResourcesInterface
	client   rest.Interface
	requests *requests

	mu        sync.Mutex // held while it asks: one question serves all
	all       answer
	groups    []*metav1.APIGroup
	preferred answer
}

var _ discovery.ServerResourcesInterface = (*Catalog)(nil)

// answer is what was served, with the tags that tell whether it still is.
type answer struct {
	tags  []tag
	lists []*metav1.APIResourceList
	err   error
}

// New returns a catalog of the API server that config names, which is copied.
func New(config *rest.Config) (*Catalog, error) {
	cfg := rest.CopyConfig(config)
	c := &Catalog{requests: &requests{}}
	cfg.Wrap(func(next http.RoundTripper) http.RoundTripper { return recorder{c.requests, next} })
	d, err := discovery.NewDiscoveryClientForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("creating the discovery client: %w", err)
	}
	c.ServerResourcesInterface, c.client = d, d.RESTClient()
	return c, nil
}

// ServerGroupsAndResources implements discovery.ServerResourcesInterface.
func (c *Catalog) ServerGroupsAndResources() ([]*metav1.APIGroup, []*metav1.APIResourceList, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bring(&c.all, func() (lists []*metav1.APIResourceList, err error) {
		c.groups, lists, err = c.ServerResourcesInterface.ServerGroupsAndResources()
		return lists, err
	})
	return c.groups, c.all.lists, c.all.err
}

// ServerPreferredResources implements discovery.ServerResourcesInterface.
func (c *Catalog) ServerPreferredResources() ([]*metav1.APIResourceList, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bring(&c.preferred, c.ServerResourcesInterface.ServerPreferredResources)
	return c.preferred.lists, c.preferred.err
}

// ServerResourcesForGroupVersion implements discovery.ServerResourcesInterface.
// What is known of everything is answered by that. Anything else is asked for by
// itself: only the API server can tell that it does not serve a version, rather
// than that it cannot say or has left it out.
func (c *Catalog) ServerResourcesForGroupVersion(version string) (*metav1.APIResourceList, error) {
	_, lists, err := c.ServerGroupsAndResources() // of lists, none failed
	i := slices.IndexFunc(lists, func(l *metav1.APIResourceList) bool { return l.GroupVersion == version })
	if i < 0 || err != nil && !discovery.IsGroupDiscoveryFailedError(err) {
		return c.ServerResourcesInterface.ServerResourcesForGroupVersion(version)
	}
	return lists[i], nil
}

// bring brings an answer up to date. The caller holds the lock.
func (c *Catalog) bring(a *answer, ask func() ([]*metav1.APIResourceList, error)) {
	if len(a.tags) > 0 && c.current(a.tags) {
		return
	}
	c.requests.begin()
	a.lists, a.err = ask()
	a.tags = c.requests.end()
}

// current tells whether the API server says that nothing has changed. If that
// cannot be found out the full question will tell why.
func (c *Catalog) current(tags []tag) bool {
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	for _, t := range tags {
		code := 0
		c.client.Get().RequestURI(t.uri).SetHeader("Accept", t.accept).SetHeader("If-None-Match", t.etag).Do(ctx).StatusCode(&code)
		if code != http.StatusNotModified {
			return false
		}
	}
	return true
}
