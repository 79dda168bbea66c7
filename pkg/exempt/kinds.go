package exempt

// resources are kinds by API group; a group without resources stands for all
// that it holds.
type resources []struct {
	group     string
	resources []string
}

func (rs resources) predicate() predicate {
	var groups []string
	out := some{}
	for _, r := range rs {
		if r.resources == nil {
			groups = append(groups, r.group)
			continue
		}
		out = append(out, all{oneOf{group, []string{r.group}}, oneOf{resource, r.resources}})
	}
	if len(groups) > 0 {
		out = append(some{oneOf{group, groups}}, out...)
	}
	return out
}

// criticalResources keep a cluster alive; nobody's request for them waits for
// a webhook. They are the corpus of requests whose loss stops an API server,
// a node or a leader election, minus what only system users write.
var criticalResources = resources{
	{"authentication.k8s.io", nil},
	{"authorization.k8s.io", nil},
	{"certificates.k8s.io", nil},
	{"", []string{"bindings", "endpoints", "events", "nodes"}},
	{"apiregistration.k8s.io", []string{"apiservices"}},
	{"coordination.k8s.io", []string{"leases"}},
	{"discovery.k8s.io", []string{"endpointslices"}},
	{"events.k8s.io", []string{"events"}},
	{"flowcontrol.apiserver.k8s.io", []string{"flowschemas", "prioritylevelconfigurations"}},
	{"networking.k8s.io", []string{"ipaddresses", "servicecidrs"}},
	{"resource.k8s.io", []string{"resourceslices"}},
	{"storage.k8s.io", []string{"csinodes", "volumeattachments"}},
}

// criticalSubresources are written by the control plane in the course of its
// work. The status of a Service is not among them: it redirects traffic
// (CVE-2020-8554), so a user who may write it is judged. Nor is a write that
// changes metadata, see metadata.go.
var criticalSubresources = all{
	oneOf{subResource, []string{"approval", "binding", "eviction", "finalize", "status", "token"}},
	not(all{
		oneOf{group, []string{""}},
		oneOf{resource, []string{"services"}},
		oneOf{subResource, []string{"status"}},
	}),
	not(changesMetadata),
	not(bindsWithMetadata),
}

// workloads are what controllers create on behalf of the tenant whose
// Deployment, CronJob, StatefulSet or Pod asks for it.
var workloads = resources{
	{"", []string{"persistentvolumeclaims", "pods"}},
	{"apps", []string{"replicasets"}},
	{"batch", []string{"jobs"}},
	{"resource.k8s.io", []string{"resourceclaims"}},
}

var createsWorkload = all{
	oneOf{operation, []string{"CREATE"}}, not(present{subResource}), workloads.predicate(),
}

// judgedKinds are the policies themselves, which have an entry of their own.
var judgedKinds = resources{{"constraints.gatekeeper.sh", nil}, {"templates.gatekeeper.sh", nil}}

const (
	ownGroup       = "fusegate.dev"
	canaryResource = "canaries"
	// PolicyCanaryPrefix starts the names of canaries that the policy entry
	// intercepts.
	PolicyCanaryPrefix = "policy-"
	// PathCanaryPrefix starts the names of canaries that the probe entry
	// intercepts.
	PathCanaryPrefix = "path-"
	// AnewCanaryPrefix starts the names of those of them whose connection the webhook
	// ends, so that the next one needs a new one.
	AnewCanaryPrefix = PathCanaryPrefix + "anew-"
)

// ownKinds are the engine's: judging them by constraints would let a
// constraint lock out its own removal.
var ownKinds = resources{
	{"config.gatekeeper.sh", nil},
	{"connection.gatekeeper.sh", nil},
	{"constraints.gatekeeper.sh", nil},
	{"expansion.gatekeeper.sh", nil},
	{"externaldata.gatekeeper.sh", nil},
	{ownGroup, nil},
	{"mutations.gatekeeper.sh", nil},
	{"status.gatekeeper.sh", nil},
	{"syncset.gatekeeper.sh", nil},
	{"templates.gatekeeper.sh", nil},
}

var (
	canary       = all{oneOf{group, []string{ownGroup}}, oneOf{resource, []string{canaryResource}}}
	policyCanary = append(canary[:len(canary):len(canary)], affix{field: name, prefix: PolicyCanaryPrefix})
	pathCanary   = append(canary[:len(canary):len(canary)], affix{field: name, prefix: PathCanaryPrefix})
	policyWrite  = all{oneOf{operation, []string{"CREATE", "UPDATE"}}, judgedKinds.predicate()}
)
