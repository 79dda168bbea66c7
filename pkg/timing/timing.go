// Package timing lists how often Fusegate's processes look, try again and give up,
// in one place, with the values of production and what each is for. Whoever
// constructs a process passes one Timings to its parts; tests pass shorter ones.
package timing

import (
	"reflect"
	"time"
)

// Timings are intervals. A field that is zero means the value of Production. They
// are no settings: nobody can set them in a cluster.
type Timings struct {
	// LeaseDuration is how long another waits for a leader that is gone,
	// RenewDeadline how long the leader tries to renew before it gives up, and
	// RetryPeriod how often both try.
	LeaseDuration, RenewDeadline, RetryPeriod time.Duration

	// Lull is how long a webhook that was told to stop goes on answering, while
	// it asks its clients to come back on another connection: an API server that
	// sends a review on a connection that is just being closed gets no answer,
	// and lets the object in. Drain is how long what is in flight may take then.
	Lull, Drain time.Duration

	// PresenceRenew is how often a process renews its presence Lease, and the
	// leader looks whose has run out; PresenceTimeout is how long a process is
	// believed to live after a renewal was last seen. Whole seconds.
	PresenceRenew, PresenceTimeout time.Duration

	// Survey is how often what exists is listed until all of it is ingested.
	Survey time.Duration
	// FaultDelay is how long faults of a constraint are gathered before its
	// status is written: whoever can cause faults must not cause as many writes.
	FaultDelay time.Duration
	// Enforcement is how often at most the conditions Enforced are compared with
	// what is so while there are changes, EnforcementCheck how often otherwise.
	Enforcement, EnforcementCheck time.Duration

	// Guard is how often the live webhook configuration is looked at when nothing
	// has announced a change, GuardCheck how often it is compared whole, and
	// CatalogAge how old discovery may be for a change that was announced.
	Guard, GuardCheck, CatalogAge time.Duration
	// An obstacle is met again after GuardRetry at first, and after up to
	// GuardRetryMax when it stays; that there is no configuration, which is
	// announced when it comes, after up to GuardAbsent.
	GuardRetry, GuardRetryMax, GuardAbsent time.Duration

	// Canary is how often every API server is asked, CanaryEager how often while
	// one has not answered at the current revision, for at most CanaryEagerFor,
	// and CanaryGrace how long one may take to learn of a revision.
	Canary, CanaryEager, CanaryEagerFor, CanaryGrace time.Duration

	// Restrict is how long install watches, once it has applied a NetworkPolicy,
	// whether the webhook still answers every API server.
	Restrict time.Duration

	// AuditReport is how often at most the AuditReport is written when only its
	// numbers have changed, AuditCompare how often statuses are compared with
	// what audit wrote; AuditRetry and AuditRetryMax are the pauses before a
	// status is tried again that could not be written.
	AuditReport, AuditCompare, AuditRetry, AuditRetryMax time.Duration
	// AuditSettle is how long audit waits for more changes of constraints, and
	// AuditRound how often it hands over what is new. It looks what the cluster
	// serves every AuditServed, and every AuditServedSoon while something is
	// asked for that is not served.
	AuditSettle, AuditRound, AuditServed, AuditServedSoon time.Duration
	// AuditRead and AuditReadMax are the pauses before a kind is read or watched
	// again that could not be. A watch holds once it has lasted AuditHeld; that
	// changes are missed, or an outcome cannot be recorded, is said after
	// AuditMissed.
	AuditRead, AuditReadMax, AuditHeld, AuditMissed time.Duration

	// InventoryRetry is how often a kind is looked for that policies read and that
	// is not served, InventoryKinds how old an answer may be about what is served,
	// and InventoryTell how long changes are gathered, at first, before those who
	// judged by what they change are told.
	InventoryRetry, InventoryKinds, InventoryTell time.Duration

	// Certificate is how often the webhook's certificates are looked at when
	// nothing has announced a change, and CertificateRetry the pause after a
	// failure, which doubles up to Certificate, and the shortest between two looks.
	Certificate, CertificateRetry time.Duration
}

// Production are those of every process that is no test's.
func Production() Timings {
	return Timings{
		LeaseDuration: 15 * time.Second, RenewDeadline: 10 * time.Second, RetryPeriod: 2 * time.Second,
		Lull: 3 * time.Second, Drain: 10 * time.Second,
		PresenceRenew: 5 * time.Second, PresenceTimeout: 20 * time.Second,
		Survey: 2 * time.Second, FaultDelay: 10 * time.Second,
		Enforcement: time.Second, EnforcementCheck: 10 * time.Second,
		Guard: 5 * time.Second, GuardCheck: time.Minute, CatalogAge: 5 * time.Second,
		GuardRetry: time.Second, GuardRetryMax: 5 * time.Second, GuardAbsent: 30 * time.Second,
		Canary: 3 * time.Second, CanaryEager: 250 * time.Millisecond, CanaryEagerFor: 10 * time.Second, CanaryGrace: 5 * time.Second,
		Restrict:    15 * time.Second,
		AuditReport: 5 * time.Second, AuditCompare: 10 * time.Second, AuditRetry: time.Second, AuditRetryMax: 30 * time.Second,
		AuditSettle: 200 * time.Millisecond, AuditRound: time.Second, AuditServed: 30 * time.Second, AuditServedSoon: 5 * time.Second,
		AuditRead: time.Second, AuditReadMax: 30 * time.Second, AuditHeld: time.Second, AuditMissed: 5 * time.Second,
		InventoryRetry: 5 * time.Second, InventoryKinds: 3 * time.Second, InventoryTell: time.Second,
		Certificate: time.Minute, CertificateRetry: time.Second,
	}
}

// Filled are the timings with those of production where they are zero.
func (t Timings) Filled() Timings {
	given, production := reflect.ValueOf(&t).Elem(), reflect.ValueOf(Production())
	for i := range given.NumField() {
		if given.Field(i).IsZero() {
			given.Field(i).Set(production.Field(i))
		}
	}
	return t
}
