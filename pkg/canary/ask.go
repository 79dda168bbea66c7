// Package canary asks API servers whether enforcement works, and how long it
// takes: it creates canaries in dry runs, which a built-in policy denies by name
// where requests reach the webhook and are judged. It stands beside the
// pipeline and looks at it from the outside, as a user would.
package canary

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/uuid"
	"sigs.k8s.io/controller-runtime/pkg/client"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/fusegate/fusegate/apis/v1alpha1"
)

// The names of canaries begin with what says which entry they are for
// (pkg/exempt).
const (
	policyPrefix = "policy-"
	pathPrefix   = "path-"
	anewPrefix   = "path-anew-"
)

// askTimeout bounds one question: the API server waits for the webhook up to
// 3 s, and may itself be slow.
const askTimeout = 10 * time.Second

// Outcome is what became of a canary.
type Outcome string

const (
	// Denied canaries were judged by the webhook.
	Denied Outcome = "Denied"
	// Admitted canaries were let through: nobody was asked, or nobody answered
	// in time.
	Admitted Outcome = "Admitted"
	// Unknown is the outcome of questions that could not be asked.
	Unknown Outcome = "Unknown"
)

// Answer is what became of one canary.
type Answer struct {
	Outcome Outcome
	// Took is how long the API server took, which is what users pay.
	Took time.Duration
	// Err is why the outcome is Unknown.
	Err error
}

// Sample is what one API server answered.
type Sample struct {
	Server   string
	Revision string
	At       time.Time
	// Policy is the answer to the canary that goes the way of users' requests,
	// Path that to the one which only tells whether the webhook answers.
	Policy, Path Answer
}

// Server is an API server.
type Server struct {
	// Name tells it from others; it is shown to users.
	Name string
	// Client talks to this API server and no other, past any cache.
	Client client.Client
}

// Ask asks an API server whether it enforces the revision of the rules.
func Ask(ctx context.Context, s Server, revision string) Sample {
	out := Sample{Server: s.Name, Revision: revision, At: time.Now()}
	var wg sync.WaitGroup
	wg.Go(func() { out.Policy = ask(ctx, s.Client, policyPrefix, revision) })
	wg.Go(func() { out.Path = ask(ctx, s.Client, pathPrefix, revision) })
	wg.Wait()
	return out
}

func ask(ctx context.Context, c client.Client, prefix, revision string) Answer {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	nonce := string(uuid.NewUUID())
	canary := &v1alpha1.Canary{
		ObjectMeta: metav1.ObjectMeta{Name: prefix + nonce},
		Spec:       v1alpha1.CanarySpec{Nonce: nonce, Revision: revision},
	}
	start := time.Now()
	err := c.Create(ctx, canary, client.DryRunAll)
	return answer(nonce, time.Since(start), err)
}

// answer reads what the API server said. A denial counts only if it repeats the
// nonce: anything else may come from somebody else's policy.
func answer(nonce string, took time.Duration, err error) Answer {
	status := apierrors.APIStatus(nil)
	switch {
	case err == nil:
		return Answer{Outcome: Admitted, Took: took}
	case errors.As(err, &status) && status.Status().Reason == metav1.StatusReasonForbidden && strings.Contains(err.Error(), nonceText(nonce)):
		return Answer{Outcome: Denied, Took: took}
	}
	return Answer{Outcome: Unknown, Took: took, Err: fmt.Errorf("creating a canary: %w", err)}
}

// nonceText is how a denial repeats the nonce (pkg/engine).
func nonceText(nonce string) string { return "nonce " + nonce }

// timedOut tells whether both canaries were let through after a wait: the
// webhook does not answer.
func (s Sample) timedOut() bool {
	return s.Policy.Outcome == Admitted && s.Policy.Took >= slow && s.Path.Outcome == Admitted && s.Path.Took >= slow
}

// explain words what a sample means, nothing when all is well.
func (s Sample) explain() (reason, message string) {
	switch s.Policy.Outcome {
	case Denied:
		return "", ""
	case Unknown:
		return v1alpha1.ReasonCanaryUnknown, fmt.Sprintf("API server %s could not be asked whether it enforces: %v", s.Server, s.Policy.Err)
	}
	took := s.Policy.Took.Round(time.Millisecond)
	switch s.Path.Outcome {
	case Denied:
		return v1alpha1.ReasonCanaryAdmitted, fmt.Sprintf("API server %s lets requests through: the webhook answers, but the entry for policies is not asked at revision %s", s.Server, s.Revision)
	case Admitted:
		return v1alpha1.ReasonCanaryAdmitted, fmt.Sprintf("API server %s lets requests through: the webhook did not answer it (%v)", s.Server, took)
	}
	return v1alpha1.ReasonCanaryAdmitted, fmt.Sprintf("API server %s let a canary through after %v", s.Server, took)
}
