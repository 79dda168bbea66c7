package config

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"
)

// imageReference is an image in the syntax of the distribution specification,
// loosely: it is here to catch an unset variable, not to know all registries.
var imageReference = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._:/-]*[a-zA-Z0-9](@sha256:[0-9a-f]{64})?$`)

// Validate joins one error for each thing that is wrong with the settings of an
// installation, after defaulting, naming the field, the value and what to do
// instead. A certificate in CABundle that has expired is among them.
func (c Config) Validate() error {
	c = c.WithDefaults()
	return errors.Join(c.ValidateInstalled(), c.checkExpiry(time.Now()))
}

// ValidateInstalled is Validate without the expiry of certificates, so that what
// is installed can still be rendered, and guarded, after it.
func (c Config) ValidateInstalled() error {
	c = c.WithDefaults()
	return errors.Join(
		checkNamespace(c.Namespace),
		c.checkImage(),
		c.checkURL(),
		c.checkPort(),
		c.checkSources(),
		c.checkCABundle(),
		c.checkClients(),
		checkTimeout(c.TimeoutSeconds),
		checkReplicas("webhookReplicas", c.WebhookReplicas),
		checkReplicas("controllerReplicas", c.ControllerReplicas),
		c.checkOwnNamespace(),
		c.validateRunning(),
	)
}

// ValidateProcess joins one error for each thing that is wrong with the settings
// of a process that serves, after defaulting. What only an installation needs
// is not looked at.
func (c Config) ValidateProcess() error {
	c = c.WithDefaults()
	return errors.Join(c.checkRoles(), c.checkCertificates(), c.checkAddresses(), c.validateRunning())
}

// validateRunning checks what an installation passes on to what runs.
func (c Config) validateRunning() error {
	_, err := c.Perimeter()
	return errors.Join(
		err,
		c.checkAPIServers(),
		c.checkAudit(),
		c.checkSizes(),
		c.checkReports(),
		oneOf("logLevel", c.LogLevel, "error", "info", "debug"),
		oneOf("logFormat", c.LogFormat, "json", "console"),
	)
}

func checkNamespace(name string) error {
	switch {
	case name == "default":
		return errors.New(`namespace: "default": tenants use it, and all of it would be outside policy; give Fusegate a namespace of its own`)
	case strings.HasPrefix(name, "kube-"):
		return fmt.Errorf("namespace: %q: the prefix kube- is reserved for Kubernetes, and who may write there is nearly an administrator; give Fusegate a namespace of its own", name)
	}
	if problems := validation.IsDNS1123Label(name); len(problems) > 0 {
		return fmt.Errorf("namespace: %q: is not the name of a namespace: %s", name, problems[0])
	}
	return nil
}

func (c Config) checkOwnNamespace() error {
	if c.Exempt.OwnNamespace == c.Namespace {
		return nil
	}
	return fmt.Errorf("exempt.ownNamespace: %q: Fusegate runs in %q; leave it out, it follows namespace", c.Exempt.OwnNamespace, c.Namespace)
}

func (c Config) checkImage() error {
	switch {
	case c.Image == "" && !c.InCluster():
		return nil
	case c.Image == "":
		return errors.New("image: is empty; name the image of Fusegate, or set webhookURL if it does not run in the cluster")
	case !imageReference.MatchString(c.Image):
		return fmt.Errorf("image: %q: is not an image reference such as registry.example.com/fusegate:v1.0.0", c.Image)
	}
	return nil
}

func checkTimeout(seconds int32) error {
	if seconds >= 1 && seconds <= MaxTimeoutSeconds {
		return nil
	}
	return fmt.Errorf("timeoutSeconds: %d: use 1 to %d; when the webhook hangs, every write that it intercepts waits this long, and longer waits have stopped API servers from starting. "+
		"If policies need longer, make them cheaper; what was not judged in time is found by audit", seconds, MaxTimeoutSeconds)
}

func checkReplicas(field string, n int32) error {
	if n >= 1 && n <= MaxReplicas {
		return nil
	}
	return fmt.Errorf("%s: %d: use 1 to %d; to stop enforcing, remove Fusegate or its constraints instead of leaving a webhook without pods", field, n, MaxReplicas)
}

func (c Config) checkURL() error {
	if c.InCluster() {
		return nil
	}
	u, err := url.Parse(c.WebhookURL)
	if err != nil {
		return fmt.Errorf("webhookURL: %q: is not a URL; write https://host:port", c.WebhookURL)
	}
	if problem := urlProblem(u); problem != "" {
		return fmt.Errorf("webhookURL: %q: %s", u.Redacted(), problem)
	}
	return nil
}

func (c Config) checkPort() error {
	switch {
	case !c.InCluster() && c.ServicePort != 0:
		return errors.New("servicePort: is for the Service, and there is none with webhookURL: leave it out, and write the port into webhookURL")
	case c.InCluster() && (c.ServicePort < 1 || c.ServicePort > 65535):
		return fmt.Errorf("servicePort: %d: use 1 to 65535", c.ServicePort)
	}
	return nil
}

// checkSources wants CIDRs as every API server takes them, and none that holds
// everybody: a port that is open must not look as if it were not.
func (c Config) checkSources() error {
	if !c.InCluster() && len(c.WebhookSources) > 0 {
		return errors.New("webhookSources: is for the webhook's pods, and there are none with webhookURL: leave it out, and let a firewall say who reaches that address")
	}
	var errs []error
	for i, s := range c.WebhookSources {
		if problem := cidrProblem(s); problem != "" {
			errs = append(errs, fmt.Errorf("webhookSources[%d]: %q: %s", i, s, problem))
		}
	}
	return errors.Join(errs...)
}

func cidrProblem(s string) string {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		return fmt.Sprintf("is an address and no CIDR; write %s/%d", a, a.BitLen())
	}
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		return "is not a CIDR; write an address and a length, such as 192.0.2.0/28 or 2001:db8::/64"
	case p.Addr().Is4In6():
		return "is IPv4 written as IPv6; write it as IPv4"
	case p.Bits() == 0:
		return "would let everybody in; name the addresses of the API servers, or leave webhookSources empty for no NetworkPolicy"
	case p != p.Masked():
		return fmt.Sprintf("has bits set beyond its length; write %s, or %s/%d", p.Masked(), p.Addr(), p.Addr().BitLen())
	}
	return ""
}

func urlProblem(u *url.URL) string {
	switch {
	case u.Scheme != "https":
		return "the API server speaks only https to webhooks; write https://host:port"
	case u.Hostname() == "":
		return "has no host; write https://host:port"
	case u.User != nil:
		return "holds credentials, which everybody who may read webhook configurations would see; leave them out"
	case u.RawQuery != "" || u.ForceQuery:
		return "holds a query, which the API server does not allow; leave it out"
	case u.Fragment != "" || strings.Contains(u.String(), "#"):
		return "holds a fragment, which the API server does not allow; leave it out"
	case clusterDNS(u.Hostname()):
		return "is a name in the cluster's DNS, which API servers do not resolve; leave webhookURL empty to use the Service, or name a host that they resolve"
	}
	return ""
}

// clusterDNS tells names that only the cluster's DNS resolves: of a Service,
// in any of its forms, or below the usual cluster domain.
func clusterDNS(host string) bool {
	host = "." + strings.TrimSuffix(strings.ToLower(host), ".") + "."
	return strings.Contains(host, ".svc.") || strings.HasSuffix(host, ".cluster.local.")
}
