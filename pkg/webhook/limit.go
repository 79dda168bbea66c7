package webhook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fusegate/fusegate/pkg/engine"
	"github.com/fusegate/fusegate/pkg/exempt"
	"github.com/fusegate/fusegate/pkg/fair"
	"github.com/fusegate/fusegate/pkg/policy"
)

const (
	// maxBody bounds one AdmissionReview in bytes. The API server takes
	// requests of up to 3 MiB (MaxRequestBodyBytes in k8s.io/apiserver
	// pkg/server/config.go); JSON can make six bytes of one, and an update
	// carries the old object too.
	maxBody = 48 << 20
	// firstRoom is for the first maxHead bytes of all bodies, so that long bodies
	// do not hold out short ones; restRoom is for what is beyond, half of it at
	// most for one namespace. Both are in bytes, and hold what has come, not what
	// was announced.
	firstRoom = 32 << 20
	restRoom  = 96 << 20
	// firstBuffer is what a body takes at first, in bytes: most are not longer.
	firstBuffer = 8 << 10
	// smallCost is up to what a review is worked on beside the large ones, in bytes
	// as estimated by cost: some 60 KiB of an ordinary object.
	smallCost = 4 << 20
	// maxSmall and maxLarge bound the memory that decoded reviews take, in bytes
	// as estimated by cost. With the rooms they must stay well below the memory
	// limit of the Deployment: three objects of a tenant's would do to have the
	// process killed, and nothing judged.
	maxSmall = 128 << 20
	maxLarge = 384 << 20
)

// limits share memory and processors between the requests in progress: between the
// addresses that they come from, then between the namespaces of their objects,
// whoever writes. A request waits for its turn as long as its time allows, so that
// load slows others down instead of letting them go unjudged.
type limits struct {
	perimeter exempt.Perimeter
	// clients tells who is known; nil if nobody is asked.
	clients      *Clients
	first, rest  *fair.Room
	small, large *fair.Queue
	policies     *fair.Queue // of templates and constraints, which are compiled
	progress     progress
}

// progress counts the requests in progress that are known by whose load they are,
// from when they are read to when they are answered.
type progress struct {
	crowd int // how many of one load crowd each other
	mu    sync.Mutex
	of    map[fair.Key]*load
}

type load struct {
	requests int
	// crowded is when there was last a crowd of them.
	crowded time.Time
}

// add counts n more, one or minus one.
func (p *progress) add(key fair.Key, n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.of[key]
	if l == nil {
		l = &load{}
		p.of[key] = l
	}
	before := l.requests
	l.requests += n
	if max(before, l.requests) >= p.crowd {
		l.crowded = time.Now()
	}
	if l.requests == 0 {
		delete(p.of, key)
	}
}

// crowded tells whether there was a crowd since then, for one who is counted.
func (p *progress) crowded(key fair.Key, since time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.of[key]
	return l != nil && (l.requests >= p.crowd || !l.crowded.Before(since))
}

func newLimits(p exempt.Perimeter, c *Clients) *limits {
	small, large := busy()
	return &limits{
		perimeter: p, clients: c,
		first: fair.NewRoom(firstRoom, firstRoom), rest: fair.NewRoom(restRoom, restRoom/2),
		small:    fair.NewQueue(fair.Options{Busy: small, Seats: 4 * small, Weight: maxSmall}),
		large:    fair.NewQueue(fair.Options{Busy: large, Seats: 2 * large, Weight: maxLarge}),
		policies: fair.NewQueue(fair.Options{Busy: 4, Seats: 8, Weight: maxSmall}),
		progress: progress{crowd: large / 2, of: map[fair.Key]*load{}},
	}
}

// busy is how many small and how many large reviews keep the processors busy. Half of
// it, which is what one namespace gets, is more than there are processors.
func busy() (small, large int) {
	processors := runtime.GOMAXPROCS(0)
	return max(8, 4*processors), max(4, 2*processors)
}

// excess is why a request is answered with a denial though it was not judged: what
// is in its way is the load of its own namespace, or of its own user where the
// object is in none.
type excess struct {
	uid, whose string
}

func (e *excess) Error() string {
	return e.whose + " has more requests in progress than its share of Fusegate: this one was not judged, try again later"
}

// intake is a request on its way in. It is its handler's alone.
type intake struct {
	limits *limits
	key    fair.Key
	// head is the zero value where it is not known.
	head  head
	known bool
	since time.Time // when it became known
	body  []byte
	// review is nil until the body was decoded.
	review *policy.Review
	// first and rest are nil where nothing of them was taken.
	first, rest *fair.Claim
	giveWay     func()
	gaveWay     atomic.Bool
	seat        func()
}

// take reads the body of r and returns once it is its turn to be judged. The caller
// calls release in any case. The error is an excess, or a status to answer with.
func (l *limits) take(ctx context.Context, w http.ResponseWriter, r *http.Request) (*intake, error) {
	ctx, cancel := context.WithCancel(ctx)
	in := &intake{limits: l, key: l.from(r), seat: func() {}}
	in.giveWay = func() {
		in.gaveWay.Store(true)
		cancel()
		_ = http.NewResponseController(w).SetReadDeadline(time.Now())
	}
	err := in.read(ctx, w, r)
	if err == nil {
		err = in.begin(ctx)
	}
	if err != nil && in.gaveWay.Load() {
		err = fair.ErrFull
	}
	return in, in.answer(err)
}

// from is the part of the key that is known before anything is read. All those who
// should present a certificate and do not are one source, with a small share.
func (l *limits) from(r *http.Request) fair.Key {
	if l.clients != nil && !l.clients.Known(r) {
		return fair.Key{Source: "strangers", Stranger: true}
	}
	return fair.Key{Source: Source(r.RemoteAddr)}
}

// Source is the address without the port of who has connected from there: what shares
// are counted by.
func Source(from string) string {
	host, _, err := net.SplitHostPort(from)
	if err != nil {
		return from
	}
	return host
}

// release gives back what is taken.
func (in *intake) release() {
	in.forget()
	in.seat()
	if in.known {
		in.limits.progress.add(in.key, -1)
	}
}

// forget gives back the room of the body, which is not used any more.
func (in *intake) forget() {
	in.body = nil
	for _, c := range []*fair.Claim{in.first, in.rest} {
		if c != nil {
			c.Leave()
		}
	}
}

// answer words why a request has to go.
func (in *intake) answer(err error) error {
	switch {
	case errors.Is(err, fair.ErrShare) && in.known, errors.Is(err, errLate) && in.crowded():
		return in.excess()
	case errors.Is(err, fair.ErrShare), errors.Is(err, fair.ErrFull):
		return &httpError{http.StatusServiceUnavailable, err}
	}
	return err
}

func (in *intake) excess() *excess { return &excess{uid: in.head.uid, whose: in.whose()} }

// crowded tells whether a request that had no time left shared it, at any moment, with
// as many of its own load as are judged at a time of one.
func (in *intake) crowded() bool {
	return in.known && !in.key.Reserved && in.limits.progress.crowded(in.key, in.since)
}

func (in *intake) whose() string {
	if in.head.Namespace != "" {
		return fmt.Sprintf("namespace %q", in.head.Namespace)
	}
	return fmt.Sprintf("user %q", in.head.UserInfo.Username)
}

// read reads the body for three quarters of the time that is left; what arrives later
// could not be judged, and a client that sends nothing must not keep its room.
func (in *intake) read(ctx context.Context, w http.ResponseWriter, r *http.Request) error {
	if deadline, ok := ctx.Deadline(); ok {
		end := time.Now().Add(time.Until(deadline) * 3 / 4)
		// A writer that has no deadlines, as in tests, has no slow client. The
		// server lifts the deadline itself when it sees the end of the body.
		_ = http.NewResponseController(w).SetReadDeadline(end)
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, end)
		defer cancel()
	}
	from := http.MaxBytesReader(w, r.Body, maxBody)
	for {
		if len(in.body) == cap(in.body) {
			if err := in.grow(ctx, r.ContentLength); err != nil {
				return in.drain(from, err)
			}
		}
		n, err := from.Read(in.body[len(in.body):cap(in.body)])
		in.body = in.body[:len(in.body)+n]
		if err == io.EOF {
			in.scan()
			if !in.known {
				in.know(in.body)
			}
			return nil
		}
		if err != nil {
			in.scan()
			return readError(err)
		}
	}
}

// drain reads what comes of the rest of a body that there is no room for, where the
// answer is a denial: a client that is still sending may take a connection that closes
// for an error, and let the request pass.
func (in *intake) drain(from io.Reader, why error) error {
	if errors.Is(why, fair.ErrShare) && in.known {
		_, _ = io.Copy(io.Discard, from)
	}
	return why
}

// errLate is why a request is turned away whose body takes too long to arrive.
var errLate = &httpError{http.StatusRequestTimeout, errors.New("reading the body: it did not arrive in time")}

func readError(err error) error {
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return tooLarge(maxBody)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errLate
	}
	return badRequest("reading the body: %w", err)
}

// grow makes room for more of a body, at least as much as has come, and all that was
// announced once a quarter of it has.
func (in *intake) grow(ctx context.Context, announced int64) error {
	in.scan()
	has := int64(cap(in.body))
	next := min(max(2*has, firstBuffer), maxBody+bytes.MinRead)
	if whole := announced + bytes.MinRead; announced >= 0 && whole <= max(4*has, firstBuffer) {
		next = whole
	}
	if err := in.claim(ctx, has, next); err != nil {
		return err
	}
	in.body = append(make([]byte, 0, next), in.body...)
	return nil
}

// claim takes room for what is between two sizes of the body.
func (in *intake) claim(ctx context.Context, has, next int64) error {
	if in.first == nil {
		in.first = in.limits.first.Enter(fair.Key{Source: in.key.Source, Stranger: in.key.Stranger}, in.giveWay)
	}
	if more := min(next, maxHead) - min(has, maxHead); more > 0 {
		if err := in.first.Grow(ctx, more); err != nil {
			return fair.ErrFull // it is nobody's share, as it is not known whose it is
		}
	}
	more := max(next-maxHead, 0) - max(has-maxHead, 0)
	if more == 0 {
		return nil
	}
	if in.rest == nil {
		in.rest = in.limits.rest.Enter(in.key, in.giveWay)
	}
	return in.rest.Grow(ctx, more)
}

// scan finds out whose request it is, if that is among what has come.
func (in *intake) scan() {
	if in.known || len(in.body) == 0 || in.rest != nil {
		return
	}
	in.know(in.body[:min(len(in.body), maxHead)])
}

// know finds the head in a text. All of a body is looked through once it is there: of
// some kinds a name may be as long as an object, and who chooses one is charged too.
func (in *intake) know(text []byte) {
	if in.head, in.known = scanHead(text); !in.known {
		return
	}
	in.key.Reserved = in.ofPolicies() || !in.key.Stranger && in.limits.perimeter.ForTenant(&in.head.Review)
	in.key.Flow = "namespace " + in.head.Namespace
	if in.head.Namespace == "" || in.head.Resource.Group == "" && in.head.Resource.Resource == "namespaces" {
		// Whoever may create namespaces has no share for each of them.
		in.key.Flow = "user " + in.head.UserInfo.Username
	}
	in.since = time.Now()
	in.limits.progress.add(in.key, 1)
}

// ofPolicies tells whether the object is a template or a constraint. Its author is
// not told to try again: the many that an installation has come at once.
func (in *intake) ofPolicies() bool {
	g := in.head.Resource.Group
	return g == engine.TemplateGroup || g == engine.ConstraintGroup
}

// begin waits for the request's turn for three quarters of the time that is left.
// All that decoding and judging the body takes is reserved at once, so that
// requests which wait here do not wait for each other.
func (in *intake) begin(ctx context.Context) error {
	claims := []*fair.Claim{in.first}
	if in.rest != nil {
		claims = append(claims, in.rest)
	}
	for _, c := range claims {
		c.Whole()
	}
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, time.Now().Add(time.Until(deadline)*3/4))
		defer cancel()
	}
	weight := cost(in.body)
	queue := in.limits.large
	switch {
	case in.ofPolicies():
		queue = in.limits.policies
	case weight <= smallCost:
		queue = in.limits.small
	}
	seat, err := queue.Acquire(ctx, in.key, weight)
	if err != nil {
		return err
	}
	in.seat = seat
	for _, c := range claims {
		if !c.Keep() {
			return fair.ErrFull
		}
	}
	return nil
}

// cost estimates the memory that decoding and judging a body takes, in bytes.
// It is governed by the number of values and not by the length: an empty object
// is three bytes of JSON, and 450 bytes as a map and as a value of Rego. The
// factors are measured, and rounded up.
func cost(body []byte) int64 {
	composites := bytes.Count(body, []byte("{")) + bytes.Count(body, []byte("["))
	return 4*int64(len(body)) + 450*int64(composites) + 64*int64(bytes.Count(body, []byte(",")))
}
