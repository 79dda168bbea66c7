package perimeter_test

import (
	"strings"

	"github.com/fusegate/fusegate/test/env/fusegate"
)

// tableExempt are requests of the request table of the safety design, beside
// those of the corpus, that must never reach the webhook.
var tableExempt = []call{
	{"system namespaces", asAdmin, "POST v1 kube-public configmaps", "kind: ConfigMap"},
	{"system namespaces", asAdmin, "PUT v1 kube-public configmaps/corpus-$N", ""},
	{"system namespaces", asAdmin, "DELETE v1 kube-public configmaps/corpus-$N", ""},
	{"system namespaces", asAdmin, "POST v1 kube-node-lease secrets", "kind: Secret"},
	{"system namespaces", asAdmin, "POST v1 fusegate-system configmaps", "kind: ConfigMap"},
	{"system namespaces", asAdmin, "PATCH v1 - namespaces/kube-system", ""},
	{"system namespaces", asAdmin, "PATCH v1 - namespaces/kube-public", ""},
	{"system namespaces", asAdmin, "PATCH v1 - namespaces/kube-node-lease", ""},
	{"system namespaces", asAdmin, "PATCH v1 - namespaces/fusegate-system", ""},
	{"system namespaces", asAdmin, "PATCH v1 kube-system pods/resized/resize", resizeBody},

	{"system users", fusegate.APIServer, "POST v1 tenant-a configmaps", "kind: ConfigMap, metadata: {name: apiserver-$N}"},
	{"system users", fusegate.APIServer, "PUT v1 tenant-a services/web", ""},
	{"system users", asScheduler, "DELETE v1 tenant-a pods/kube-scheduler-$N", ""},
	{"system users", asNode, "DELETE v1 tenant-a pods/kubelet-$N", ""},
	{"system users", bootstrapping, "POST v1 tenant-a configmaps", "kind: ConfigMap, metadata: {name: bootstrap-$N}"},
	{"system users", ownAccount, "POST v1 tenant-a configmaps", "kind: ConfigMap, metadata: {name: own-$N}"},

	{"controllers", asManager, "POST v1 tenant-a secrets", "kind: Secret, metadata: {name: manager-$N}"},
	{"controllers", cloudManager, "PUT v1 tenant-a services/web", ""},
	{"controllers", cloudManager, "PATCH v1 tenant-a services/web/status", `status: {loadBalancer: {ingress: [{ip: 192.0.2.1$N}]}}`},
	{"controllers", addonManager, "POST v1 tenant-a configmaps", "kind: ConfigMap, metadata: {name: addon-$N}"},
	{"controllers", kubeProxy, "PATCH v1 tenant-a services/web", ""},
	{"controllers", kubeSystem("deployment-controller"), "PUT apps/v1 tenant-a replicasets/empty", ""},
	{"controllers", kubeSystem("deployment-controller"), "DELETE apps/v1 tenant-a replicasets/victim-$N", ""},
	{"controllers", kubeSystem("replicaset-controller"), "PATCH v1 tenant-a pods/spare", ""},
	{"controllers", kubeSystem("replicaset-controller"), "DELETE v1 tenant-a pods/replicaset-controller-$N", ""},
	{"controllers", kubeSystem("job-controller"), "PATCH v1 tenant-a pods/spare", ""},
	{"controllers", kubeSystem("horizontal-pod-autoscaler"), "PUT apps/v1 tenant-a deployments/idle/scale", ""},
	{"controllers", kubeSystem("clusterrole-aggregation-controller"), "PATCH " + rbacV1 + " - clusterroles/view", ""},
	{"controllers", kubeSystem("statefulset-controller"), "PUT v1 tenant-a persistentvolumeclaims/data", ""},

	{"critical resources", asTenant, "POST coordination.k8s.io/v1 tenant-a leases", leaseBody},
	{"critical resources", asTenant, "PUT coordination.k8s.io/v1 tenant-a leases/corpus-$N", ""},
	{"critical resources", asTenant, "DELETE coordination.k8s.io/v1 tenant-a leases/corpus-$N", ""},
	{"critical resources", asTenant, "POST v1 tenant-a events", "kind: Event, metadata: {name: tenant-$N}, involvedObject: {namespace: tenant-a}"},
	{"critical resources", asTenant, "PATCH events.k8s.io/v1 tenant-a events/tenant-$N", ""},
	{"critical resources", asTenant, "PUT v1 tenant-a endpoints/manual", ""},
	{"critical resources", asTenant, "PUT discovery.k8s.io/v1 tenant-a endpointslices/manual", ""},
	{"critical resources", asTenant, "POST v1 tenant-a bindings", "metadata: {name: tenant-bindings-$N}, " + bindingBody},
	{"critical resources", asAdmin, "PATCH v1 - nodes/node-1", ""},
	{"critical resources", asAdmin, "DELETE v1 - nodes/corpus-$N", ""},
	{"critical resources", asAdmin, "POST certificates.k8s.io/v1 - certificatesigningrequests", "metadata: {name: admin-$N}, " + csrBody},
	{"critical resources", asAdmin, "DELETE certificates.k8s.io/v1 - certificatesigningrequests/admin-$N", ""},
	{"critical resources", asAdmin, "PATCH flowcontrol.apiserver.k8s.io/v1 - flowschemas/corpus-$N", ""},
	{"critical resources", asAdmin, "DELETE flowcontrol.apiserver.k8s.io/v1 - prioritylevelconfigurations/corpus-$N", ""},
	{"critical resources", asAdmin, "PATCH apiregistration.k8s.io/v1 - apiservices/v1.apps", ""},
	{"critical resources", asAdmin, "POST " + cidrPath + " ipaddresses", `kind: IPAddress, metadata: {name: 10.2$N.0.8}, spec: {parentRef: {group: "", resource: services, namespace: default, name: gone}}`},
	{"critical resources", asAdmin, "PATCH " + cidrPath + " servicecidrs/corpus-$N", ""},
	{"critical resources", asAdmin, "DELETE storage.k8s.io/v1 - volumeattachments/corpus-$N", ""},
	{"critical resources", asAdmin, "PATCH storage.k8s.io/v1 - csinodes/node-1", ""},
	{"critical resources", asAdmin, "DELETE resource.k8s.io/v1 - resourceslices/corpus-$N", ""},
	{"critical resources", asAdmin, "POST authentication.k8s.io/v1 - tokenreviews", "kind: TokenReview, metadata: {}, spec: {token: x}"},

	{"critical subresources", asTenant, "PATCH apps/v1 tenant-a deployments/idle/status", "status: {observedGeneration: 1}"},
	{"critical subresources", asTenant, "PATCH v1 tenant-a pods/spare/status", `status: {message: "$N"}`},
	{"critical subresources", asTenant, "POST v1 tenant-a pods/tenant-bind-$N/binding", "metadata: {name: tenant-bind-$N}, " + bindingBody},
	{"critical subresources", asTenant, "POST v1 tenant-a pods/tenant-evict-$N/eviction", "apiVersion: policy/v1, kind: Eviction, metadata: {name: tenant-evict-$N}"},
	{"critical subresources", asTenant, "POST v1 tenant-a serviceaccounts/default/token", tokenBody},
	{"critical subresources", asAdmin, "PUT v1 - namespaces/tenant-a/finalize", "spec: {}"},
	{"critical subresources", asAdmin, "PUT v1 - namespaces/tenant-a/status", "status: {}"},
	{"metadata by the system", asNode, "PATCH v1 tenant-a pods/bound/status", `metadata: {annotations: {corpus: "$N"}}`},
	{"metadata by the system", kubeSystem("node-controller"), "PATCH v1 tenant-a pods/spare/status", `metadata: {labels: {corpus: "$N"}}`},
	{"metadata by the system", kubeSystem("namespace-controller"), "PUT v1 - namespaces/tenant-a/status", `metadata: {labels: {corpus: "$N"}}`},
	{"metadata by the system", asScheduler, "POST v1 tenant-a pods/system-bind-$N/binding", "metadata: {name: system-bind-$N, annotations: {corpus: x}}, " + bindingBody},
	{"critical subresources", asAdmin, "PUT certificates.k8s.io/v1 - certificatesigningrequests/corpus-$N/approval", `status: {conditions: [{type: Denied, status: "True", reason: Corpus, message: corpus}]}`},
	{"critical subresources", asAdmin, "PATCH v1 - persistentvolumes/pv/status", `status: {message: "$N"}`},

	{"policies", asAdmin, "DELETE constraints.gatekeeper.sh/v1beta1 - denyall/spare-$N", ""},
	{"impersonation", asAdmin + " as " + fusegate.APIServer, "POST v1 tenant-a configmaps", "kind: ConfigMap, metadata: {name: impersonated-$N}"},
}

// tableJudged are requests of the request table, beside those of the corpus,
// that must reach the webhook.
var tableJudged = []call{
	{"workloads", kubeSystem("replicaset-controller"), "POST v1 tenant-a pods", "metadata: {generateName: web-}, " + podBody},
	{"workloads", kubeSystem("daemon-set-controller"), "POST v1 tenant-a pods", podBody},
	{"workloads", kubeSystem("job-controller"), "POST v1 default pods", podBody},
	{"workloads", kubeSystem("deployment-controller"), "POST apps/v1 tenant-a replicasets", replicaSetBody},
	{"workloads", kubeSystem("cronjob-controller"), "POST batch/v1 tenant-a jobs", jobBody},
	{"workloads", kubeSystem("resource-claim-controller"), "POST resource.k8s.io/v1 tenant-a resourceclaims", "kind: ResourceClaim, spec: {devices: {}}"},
	{"workloads", cloudManager, "POST v1 tenant-a pods", "metadata: {name: cloud-$N}, " + podBody},
	{"workloads", addonManager, "POST v1 tenant-a pods", "metadata: {name: addon-$N}, " + podBody},

	{"tenants", asTenant, "POST v1 tenant-a configmaps", "kind: ConfigMap, metadata: {name: tenant-$N}"},
	{"tenants", asTenant, "POST v1 tenant-a configmaps", "kind: ConfigMap, metadata: {name: kube-root-ca.crt}"},
	{"tenants", asTenant, "PUT v1 tenant-a configmaps/put", ""},
	{"tenants", asTenant, "PATCH v1 tenant-a configmaps/patch", ""},
	{"tenants", asTenant, "DELETE v1 tenant-a configmaps/delete", ""},
	{"tenants", asTenant, "DELETE v1 tenant-b secrets", ""},
	{"tenants", asTenant, "DELETE v1 tenant-a pods/unwanted", ""},
	{"tenants", deployer, "POST apps/v1 tenant-a deployments", "kind: Deployment, spec: {replicas: 0, selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: registry.example.com/fusegate.Pause}]}}}"},
	{"tenants", asTenant, "PATCH apps/v1 tenant-a deployments/idle/scale", "spec: {replicas: 0}"},
	{"tenants", asTenant, "PATCH v1 tenant-a pods/debugged/ephemeralcontainers", "spec: {ephemeralContainers: [{name: e, image: registry.example.com/debug}]}"},
	{"tenants", asTenant, "PATCH v1 tenant-a pods/resized/resize", resizeBody},
	{"tenants", asTenant, "PATCH v1 tenant-a services/balanced/status", "status: {loadBalancer: {ingress: [{ip: 192.0.2.7}]}}"},
	{"metadata", asTenant, "PATCH v1 tenant-a pods/spare/status", `metadata: {labels: {tenant: "$N"}}`},
	{"metadata", asTenant, "PATCH apps/v1 tenant-a replicasets/empty/status", `metadata: {annotations: {tenant: "$N"}}`},
	{"metadata", asTenant, "POST v1 tenant-a pods/label-bind-$N/binding", "metadata: {name: label-bind-$N, labels: {corpus: x}}, " + bindingBody},
	{"metadata", asTenant, "POST v1 tenant-a bindings", "metadata: {name: label-bindings-$N, annotations: {corpus: x}}, " + bindingBody},
	{"metadata", asAdmin, "PUT v1 - namespaces/calico-system/status", `metadata: {labels: {tenant: "$N"}}`},
	{"metadata", asAdmin, "PUT v1 - namespaces/csi-driver/finalize", `metadata: {annotations: {tenant: "$N"}}`},
	{"metadata", asAdmin, "PATCH v1 - persistentvolumes/pv/status", `metadata: {annotations: {tenant: "$N"}}`},
	{"admins", asAdmin, "POST v1 tenant-a secrets", "kind: Secret, metadata: {name: admin-$N}"},
	{"admins", asAdmin, "DELETE v1 tenant-a configmaps/delete-too", ""},
	{"admins", asAdmin, "POST v1 - namespaces", "kind: Namespace, metadata: {name: admins-$N}"},
	{"admins", asAdmin, "PATCH v1 - namespaces/tenant-b", "metadata: {labels: {corpus: x}}"},
	{"admins", asAdmin, "PATCH v1 - namespaces/default", ""},
	{"admins", asAdmin, "POST " + rbacV1 + " - clusterroles", "kind: ClusterRole, metadata: {name: admins-$N}, rules: []"},
	{"admins", asAdmin, "POST apiextensions.k8s.io/v1 - customresourcedefinitions", strings.NewReplacer("things", "others", "Thing", "Other").Replace(crdBody)},
	{"admins", asAdmin, "POST v1 - persistentvolumes", "metadata: {name: admins-$N}, " + volumeBody},
	{"admins", asAdmin, "POST corpus.example.com/v1 tenant-a widgets", "kind: Widget"},
	{"mistaken identities", alice, "POST v1 tenant-a configmaps", "kind: ConfigMap, metadata: {name: alice-$N}"},
	{"mistaken identities", mallory, "POST v1 tenant-a configmaps", "kind: ConfigMap, metadata: {name: mallory-$N}"},
	{"mistaken identities", calico, "POST v1 tenant-a configmaps", "kind: ConfigMap, metadata: {name: calico-$N}"},
}

// tableConnect are those of them that, let through, would need a kubelet.
var tableConnect = []call{
	{"tenants", asTenant, "POST v1 tenant-a pods/bound/exec?command=ls&stdout=true", "metadata: {}"},
	{"admins", asAdmin, "POST v1 tenant-a pods/bound/attach?stdout=true", "metadata: {}"},
	{"tenants", asTenant, "POST v1 tenant-a services/web/proxy/", "metadata: {}"},
}

const (
	resizeBody     = "spec: {containers: [{name: c, resources: {requests: {cpu: 2$Nm}}}]}"
	replicaSetBody = "kind: ReplicaSet, spec: {replicas: 0, selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: registry.example.com/fusegate.Pause}]}}}"
	jobBody        = "kind: Job, spec: {parallelism: 0, template: {spec: {restartPolicy: Never, containers: [{name: c, image: registry.example.com/fusegate.Pause}]}}}"
)
