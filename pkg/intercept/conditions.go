package intercept

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"

	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/plugin/cel"
	"k8s.io/apiserver/pkg/admission/plugin/webhook/matchconditions"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/cel/environment"

	"github.com/fusegate/fusegate/pkg/printable"
)

// celCompiler compiles as the API server does for webhooks (k8s.io/apiserver
// pkg/admission/plugin/webhook/generic, NewWebhook). It costs milliseconds to
// make.
var celCompiler = sync.OnceValue(func() cel.Compiler {
	return cel.NewCompiler(environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion()))
})

// conditions are the compiled matchConditions of an entry.
type conditions struct {
	entry     string
	policy    *admissionregistrationv1.FailurePolicyType
	evaluator cel.ConditionEvaluator
	// broken are those that this build cannot compile, by name.
	broken map[string]string
}

func compile(entry *admissionregistrationv1.ValidatingWebhook) conditions {
	c := conditions{entry: entry.Name, policy: entry.FailurePolicy, broken: map[string]string{}}
	if len(entry.MatchConditions) == 0 {
		return c
	}
	results := make([]cel.CompilationResult, len(entry.MatchConditions))
	for i, m := range entry.MatchConditions {
		accessor := matchconditions.MatchCondition(m)
		results[i] = celCompiler().CompileCELExpression(&accessor,
			cel.OptionalVariableDeclarations{HasAuthorizer: true}, environment.StoredExpressions)
		if err := results[i].Error; err != nil {
			c.broken[m.Name] = err.Error()
		}
	}
	c.evaluator = cel.NewCondition(results)
	return c
}

// stop returns why the conditions keep the request from the webhook, or
// nothing, and whether they would say the same again. Whether they do is the API server's matcher's answer; what it leaves
// out of it, the names of conditions that fail and those after the first that
// is false, is read from what it evaluates.
func (c conditions) stop(ctx context.Context, a *admission.VersionedAttributes) (why []Reason, final bool) {
	whole := fieldOf(c.entry, "matchConditions")
	if err := ctx.Err(); err != nil {
		return outOfTime(whole, err), false
	}
	seen, asked := &recorder{ConditionEvaluator: c.evaluator}, &nobody{}
	result := matchconditions.NewMatcher(seen, c.policy, "webhook", "validating", printable.Line(c.entry)).Match(ctx, a, nil, asked)
	if result.Matches && !asked.ever.Load() {
		return nil, true
	}
	if err := ctx.Err(); err != nil {
		return outOfTime(whole, err), false
	}
	if seen.err != nil {
		return []Reason{{Cause: ConditionError, Field: whole, Text: seen.err.Error()}}, true
	}
	return c.reasons(seen.results, asked.ever.Load()), true
}

func outOfTime(field string, err error) []Reason {
	return []Reason{{Cause: Undecided, Field: field, Text: "no time was left to evaluate them: " + err.Error()}}
}

// reasons lists the conditions that are false, then those that cannot be
// evaluated, since one that is false decides, whatever the others are.
func (c conditions) reasons(results []cel.EvaluationResult, asked bool) []Reason {
	var out, undecided, failed []Reason
	for _, r := range results {
		m, ok := r.ExpressionAccessor.(*matchconditions.MatchCondition)
		if !ok {
			continue
		}
		reason := Reason{Condition: m.Name, Field: conditionField(c.entry, m.Name)}
		switch {
		case c.broken[m.Name] != "":
			reason.Cause, reason.Text = Undecided, "this build cannot compile it: "+c.broken[m.Name]
			undecided = append(undecided, reason)
		case asked && strings.Contains(m.Expression, cel.AuthorizerVarName):
			reason.Cause, reason.Text = Undecided, "it asks the authorizer, who cannot be asked here"
			undecided = append(undecided, reason)
		case r.Error != nil:
			reason.Cause, reason.Text = ConditionError, r.Error.Error()
			failed = append(failed, reason)
		case r.EvalResult != nil && r.EvalResult.Value() == false:
			reason.Cause, reason.Text = falsehood(m)
			out = append(out, reason)
		}
	}
	return append(append(out, failed...), undecided...)
}

func falsehood(m *matchconditions.MatchCondition) (Cause, string) {
	if isFuse(admissionregistrationv1.MatchCondition(*m)) {
		return FuseOpen, fuseText
	}
	return ConditionFalse, "is false"
}

// recorder keeps what is evaluated.
type recorder struct {
	cel.ConditionEvaluator
	results []cel.EvaluationResult
	err     error
}

// ForInput implements cel.ConditionEvaluator.
func (r *recorder) ForInput(ctx context.Context, a *admission.VersionedAttributes, request *admissionv1.AdmissionRequest, inputs cel.OptionalVariableBindings, namespace *corev1.Namespace, budget int64) ([]cel.EvaluationResult, int64, error) {
	results, left, err := r.ConditionEvaluator.ForInput(ctx, a, request, inputs, namespace, budget)
	r.results, r.err = results, err
	return results, left, err
}

// nobody is an authorizer that knows nothing and remembers being asked.
type nobody struct{ ever atomic.Bool }

// Authorize implements authorizer.Authorizer.
func (n *nobody) Authorize(context.Context, authorizer.Attributes) (authorizer.Decision, string, error) {
	n.ever.Store(true)
	return authorizer.DecisionNoOpinion, "", nil
}
