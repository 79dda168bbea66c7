package perimeter_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"github.com/fusegate/fusegate/test/controlplane"
	"github.com/fusegate/fusegate/test/env/fusegate"
)

// caller makes calls of the corpus at one control plane.
type caller struct {
	cp *controlplane.ControlPlane
	// words replaces what begins with a dollar sign.
	words *strings.Replacer
}

// callOutcome is how an API server answered one call.
type callOutcome struct {
	code   int
	took   time.Duration
	status metav1.Status
}

// passed tells that admission let the request through. What is there already
// is found out by the storage, after all webhooks.
func (o callOutcome) passed() bool {
	return o.code/100 == 2 || o.status.Reason == metav1.StatusReasonAlreadyExists
}

// denied tells that the constraint everything denied the request.
func (o callOutcome) denied() bool {
	return o.code == http.StatusForbidden && strings.HasPrefix(o.status.Message, `admission webhook "validation.fusegate.dev" denied the request: [everything] no `)
}

func (o callOutcome) String() string {
	return fmt.Sprintf("%d %s %s after %.3f s", o.code, o.status.Reason, o.status.Message, o.took.Seconds())
}

// callTarget are the parts of a call's what.
type callTarget struct{ method, version, namespace, path string }

func (k call) parse() callTarget {
	f := strings.Fields(k.what)
	return callTarget{f[0], f[1], f[2], f[3]}
}

func (r callTarget) url() string {
	out := "/apis/" + r.version
	if r.version == "v1" {
		out = "/api/v1"
	}
	if r.namespace != "-" {
		out += "/namespaces/" + r.namespace
	}
	return out + "/" + r.path
}

// request makes a call as in the run n. An update of an object that somebody else
// has just written is repeated; the time is that of the last request.
func (c caller) request(t *testing.T, k call, n int) (callOutcome, error) {
	words := strings.NewReplacer("$N", fmt.Sprint(n))
	k.what, k.body = words.Replace(k.what), c.words.Replace(words.Replace(k.body))
	r := k.parse()
	for attempt := 0; ; attempt++ {
		body, err := c.body(t, r, k.body, n)
		if err != nil {
			return callOutcome{}, err
		}
		o, err := c.send(t, k.user, r, body)
		if err != nil || o.status.Reason != metav1.StatusReasonConflict || attempt > 9 {
			return o, err
		}
	}
}

// body is what a request carries.
func (c caller) body(t *testing.T, r callTarget, text string, n int) (map[string]any, error) {
	given := map[string]any{}
	if text == "" {
		text = fmt.Sprintf(`metadata: {annotations: {corpus: "%d"}}`, n)
	}
	if err := yaml.Unmarshal([]byte("{"+text+"}"), &given); err != nil {
		return nil, fmt.Errorf("parsing %s: %w", text, err)
	}
	switch r.method {
	case http.MethodDelete:
		return nil, nil
	case http.MethodPut:
		object, err := c.read(t, r)
		if err != nil {
			return nil, err
		}
		mergeInto(object, given)
		return object, nil
	case http.MethodPost:
		whole := map[string]any{"apiVersion": r.version, "metadata": map[string]any{"name": fmt.Sprintf("corpus-%d", n)}}
		for field, value := range given {
			whole[field] = value
		}
		return whole, nil
	}
	return given, nil
}

// read returns an object as it is.
func (c caller) read(t *testing.T, r callTarget) (map[string]any, error) {
	r.method, r.path = http.MethodGet, strings.TrimSuffix(r.path, "/finalize")
	object := map[string]any{}
	code, text, err := c.do(t, fusegate.APIServer, r, nil)
	if err == nil && code != http.StatusOK {
		err = fmt.Errorf("reading %s: %d: %s", r.path, code, text)
	}
	if err != nil {
		return nil, err
	}
	return object, json.Unmarshal(text, &object)
}

// mergeInto puts what is in from into the object, as RFC 7386 does.
func mergeInto(object, from map[string]any) {
	for field, value := range from {
		inner, ok := value.(map[string]any)
		into, is := object[field].(map[string]any)
		if ok && is {
			mergeInto(into, inner)
			continue
		}
		object[field] = value
	}
}

func (c caller) send(t *testing.T, user string, r callTarget, body map[string]any) (callOutcome, error) {
	started := time.Now()
	code, text, err := c.do(t, user, r, body)
	o := callOutcome{code: code, took: time.Since(started)}
	if err != nil || code/100 == 2 {
		return o, err
	}
	if json.Unmarshal(text, &o.status) != nil {
		o.status.Message = string(text)
	}
	return o, nil
}

func (c caller) do(t *testing.T, user string, r callTarget, body map[string]any) (int, []byte, error) {
	user, as, _ := strings.Cut(user, " as ")
	config := c.cp.Config(user)
	if as != "" {
		config.Impersonate = rest.ImpersonationConfig{UserName: as, Groups: []string{"system:masters"}}
	}
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return 0, nil, err
	}
	content, err := json.Marshal(body)
	if err != nil {
		return 0, nil, err
	}
	if body == nil {
		content = nil
	}
	req, err := http.NewRequestWithContext(t.Context(), r.method, config.Host+r.url(), bytes.NewReader(content))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	if r.method == http.MethodPatch {
		req.Header.Set("Content-Type", "application/strategic-merge-patch+json")
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, text, err
}
