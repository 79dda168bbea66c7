package inventory_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
)

// compact makes etcd forget all but the present, as it does for every API
// server now and then.
func compact(t *testing.T) {
	t.Helper()
	e := etcd{t: t}
	command, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", shared.cp.Processes()["kube-apiserver-0"]))
	if err != nil {
		t.Fatal(err)
	}
	flags := map[string]string{}
	for arg := range strings.SplitSeq(string(command), "\x00") {
		name, value, _ := strings.Cut(arg, "=")
		flags[name] = value
	}
	e.url = flags["--etcd-servers"]
	pair, err := tls.LoadX509KeyPair(flags["--etcd-certfile"], flags["--etcd-keyfile"])
	if err != nil {
		t.Fatal(err)
	}
	ca, err := os.ReadFile(flags["--etcd-cafile"])
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	e.client.Transport = &http.Transport{
		TLSClientConfig:   &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: pool, MinVersion: tls.VersionTLS12},
		DisableKeepAlives: true,
	}
	// "YQ==" is any key; what counts is the header of the answer.
	revision := e.post("/v3/kv/range", `{"key": "YQ=="}`)
	e.post("/v3/kv/compaction", fmt.Sprintf(`{"revision": %q, "physical": true}`, revision))
}

// etcd is a client of its JSON gateway.
type etcd struct {
	t      *testing.T
	url    string
	client http.Client
}

func (e *etcd) post(path, body string) (revision string) {
	e.t.Helper()
	req, err := http.NewRequestWithContext(e.t.Context(), http.MethodPost, e.url+path, bytes.NewBufferString(body))
	if err != nil {
		e.t.Fatal(err)
	}
	resp, err := e.client.Do(req)
	if err != nil {
		e.t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct {
		Header  struct{ Revision string }
		Message string
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		e.t.Fatal(err)
	}
	// Where nothing was written since, there is nothing to compact.
	if resp.StatusCode != http.StatusOK && !strings.Contains(answer.Message, "has been compacted") {
		e.t.Fatalf("etcd answered %s: %s", resp.Status, answer.Message)
	}
	return answer.Header.Revision
}
