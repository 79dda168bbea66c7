package canary

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"

	"github.com/fusegate/fusegate/apis/v1alpha1"
	"github.com/fusegate/fusegate/pkg/timing"
)

// sampleOf is what an API server answered at a revision.
func sampleOf(server, revision string, policy, path Outcome) Sample {
	return sampleAfter(time.Millisecond, server, revision, policy, path)
}

func sampleAfter(took time.Duration, server, revision string, policy, path Outcome) Sample {
	answer := func(o Outcome) Answer {
		a := Answer{Outcome: o, Took: took}
		if o == Unknown {
			a.Err = errors.New("forbidden")
		}
		return a
	}
	return Sample{Server: server, Revision: revision, At: time.Now(), Policy: answer(policy), Path: answer(path)}
}

// TestProof feeds answers and asks what they prove of revision "2".
func TestProof(t *testing.T) {
	denied := func(server, revision string) Sample { return sampleOf(server, revision, Denied, Denied) }
	admitted := func(server string) Sample { return sampleOf(server, "2", Admitted, Admitted) }
	cases := map[string]struct {
		reason  string
		rounds  [][]Sample
		ago     time.Duration // how long ago the revision was first asked about
		want    Proof
		message string
	}{
		"Nothing": {reason: "nobody was asked yet", want: Proof{Pending: true, Reason: v1alpha1.ReasonCanaryUnknown}},
		"Both":    {reason: "both deny", rounds: [][]Sample{{denied("a", "2"), denied("b", "2")}}, want: Proof{Proven: true, Reason: v1alpha1.ReasonCanaryAnswered}, message: "a, b"},
		"OldOne":  {reason: "one answered at the revision before", rounds: [][]Sample{{denied("a", "2"), denied("b", "1")}}, want: Proof{Pending: true, Reason: v1alpha1.ReasonCanaryUnknown}},
		"Fresh":   {reason: "an API server may take a moment to learn of a revision", rounds: [][]Sample{{denied("a", "1")}, {admitted("a")}, {admitted("a")}, {admitted("a")}}, want: Proof{Pending: true, Reason: v1alpha1.ReasonCanaryUnknown}},
		"NotSoFresh": {reason: "but not forever", ago: 2 * timing.Production().CanaryGrace, rounds: [][]Sample{{denied("a", "1")}, {admitted("a")}, {admitted("a")}},
			want: Proof{Reason: v1alpha1.ReasonCanaryAdmitted}, message: "did not answer it (1ms)"},
		"Blip":  {reason: "one wrong answer is no outage", rounds: [][]Sample{{denied("a", "2")}, {admitted("a")}}, want: Proof{Proven: true, Reason: v1alpha1.ReasonCanaryAnswered}},
		"Twice": {reason: "two in a row are", rounds: [][]Sample{{denied("a", "2")}, {admitted("a")}, {admitted("a")}}, want: Proof{Reason: v1alpha1.ReasonCanaryAdmitted}},
		"Slow": {reason: "both canaries let through after the time-out are enough", rounds: [][]Sample{{denied("a", "2")}, {sampleAfter(3*time.Second, "a", "2", Admitted, Admitted)}},
			want: Proof{Reason: v1alpha1.ReasonCanaryAdmitted}, message: "did not answer it (3s)"},
		"Apart": {reason: "two with a right one between are not", rounds: [][]Sample{{denied("a", "2")}, {admitted("a")}, {denied("a", "2")}, {admitted("a")}},
			want: Proof{Proven: true, Reason: v1alpha1.ReasonCanaryAnswered}},
		"Narrowed": {reason: "the path works and policies are not asked", rounds: [][]Sample{{denied("a", "2")}, {sampleOf("a", "2", Admitted, Denied)}, {sampleOf("a", "2", Admitted, Denied)}},
			want: Proof{Reason: v1alpha1.ReasonCanaryAdmitted}, message: "the webhook answers, but"},
		"Broken": {reason: "a probe that is refused says nothing", rounds: [][]Sample{{denied("a", "2")}, {sampleOf("a", "2", Unknown, Unknown)}, {sampleOf("a", "2", Unknown, Unknown)}},
			want: Proof{Reason: v1alpha1.ReasonCanaryUnknown}, message: "forbidden"},
		"Gone": {reason: "an API server that is gone proves nothing and disproves nothing", rounds: [][]Sample{{denied("a", "2"), denied("b", "1")}, {denied("a", "2")}},
			want: Proof{Proven: true, Reason: v1alpha1.ReasonCanaryAnswered}},
		"One": {reason: "each API server counts", rounds: [][]Sample{{denied("a", "2"), denied("b", "2")}, {denied("a", "2"), admitted("b")}, {denied("a", "2"), admitted("b")}},
			want: Proof{Reason: v1alpha1.ReasonCanaryAdmitted}, message: "API server b"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			p, err := NewProber(nil, nil, nil, logr.Discard())
			if err != nil {
				t.Fatal(err)
			}
			for _, round := range tc.rounds {
				p.keep(round)
				p.asked = true
			}
			for _, r := range p.records {
				r.since = r.since.Add(-tc.ago)
			}
			got := p.Proof("2")
			if got.Proven != tc.want.Proven || got.Pending != tc.want.Pending || got.Reason != tc.want.Reason || !strings.Contains(got.Message, tc.message) {
				t.Errorf("%s: got %+v, want %+v with a message that has %q", tc.reason, got, tc.want, tc.message)
			}
		})
	}
}

// TestAnswerOf reads what API servers say.
func TestAnswerOf(t *testing.T) {
	if got := answer("n", time.Second, nil); got.Outcome != Admitted || got.Took != time.Second {
		t.Errorf("got %+v, want it admitted after a second", got)
	}
	if got := answer("n", time.Second, errors.New("nonce n")); got.Outcome != Unknown || got.Err == nil {
		t.Errorf("got %+v, want an error that is no denial to be unknown", got)
	}
}
