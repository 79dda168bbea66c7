package app

import (
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/flowcontrol"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// clientQPS and clientBurst bound the requests that a process makes in a second by
// the manager's client: statuses, conditions, CRDs, presence Leases and what the
// guard mends. Several thousand statuses, as after a start beside 200 templates and
// 1,000 constraints, are then written within a minute, at what an API server does
// with one request in flight.
//
// Nobody is starved by that. Turns are given in the order in which they are asked
// for, and no more than some thirty requests wait at a time, as each writer has a
// fixed number of workers: a presence Lease or what the guard mends waits for a
// third of a second at most. Leader election has a client of its own, without a
// limit. Nor are the cache (a list and a watch for each kind, all of which are
// waited for) and live reads (one at a time for each reader) limited; audit,
// inventory and reports limit their own requests.
const clientQPS, clientBurst = 100, 200

// newLimitedClient is the manager's NewClient.
func newLimitedClient(cfg *rest.Config, o client.Options) (client.Client, error) {
	return client.New(limited(cfg, clientQPS, clientBurst), o)
}

// limited returns cfg with one limit for all clients that are made from it. QPS
// alone would be one for each kind of object.
func limited(cfg *rest.Config, qps float32, burst int) *rest.Config {
	cfg = rest.CopyConfig(cfg)
	cfg.RateLimiter = flowcontrol.NewTokenBucketRateLimiter(qps, burst)
	return cfg
}
